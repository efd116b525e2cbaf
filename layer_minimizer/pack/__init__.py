"""Turn a plan into the zip of a layer."""
