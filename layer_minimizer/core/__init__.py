"""Used by all other rooms: errors, progress, atomic output files, caches, compression."""
