"""Read what the user has: interpreter, installed distributions, base layers, files of the workload."""
