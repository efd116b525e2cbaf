"""The file formats of a layer: layout, zip, cold store, compressed bytecode."""
