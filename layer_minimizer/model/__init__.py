"""The values that the stages exchange: frozen dataclasses, without I/O."""
