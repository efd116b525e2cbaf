"""Decide about every installed file, with a reason for each."""
