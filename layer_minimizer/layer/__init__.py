"""A layer on disk: its layout, its zip, its compressed stores."""
