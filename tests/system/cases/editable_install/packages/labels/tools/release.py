"""Not to be installed."""

raise SystemExit("this is a program of the project, and no part of the package")
