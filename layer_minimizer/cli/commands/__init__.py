"""One module for each command of ``minimize``."""
