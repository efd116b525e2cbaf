"""Excludes the folders of the cases from collection: they contain functions and distributions, not tests."""

collect_ignore_glob = ["*/*"]
