"""Excludes the folders of the apps from collection: they contain functions, not tests."""

collect_ignore_glob = ["apps/*"]
