"""Verify that a layer alone gives the same results as the full environment."""
