"""Render what a run produced as text, JSON and HTML. Computes nothing new."""
