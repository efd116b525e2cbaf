"""What the user has: interpreter, installed distributions, base layers, the workload's files."""
