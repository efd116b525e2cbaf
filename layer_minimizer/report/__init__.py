"""Render the results of a run as text, JSON and HTML, without computing anything new."""
