"""What lies in the cases' folders are functions and distributions, and no tests."""

collect_ignore_glob = ["*/*"]
