"""Decide for every installed file whether it is kept, cold or dropped, and record the reason."""
