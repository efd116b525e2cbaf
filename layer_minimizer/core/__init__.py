"""What every room may use: errors, progress, atomic files, caches, compression."""
