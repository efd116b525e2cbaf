"""The values that flow from stage to stage. Frozen; no I/O."""
