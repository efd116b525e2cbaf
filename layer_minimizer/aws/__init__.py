"""AWS: limits and runtimes of Lambda, its API, the programs that emulate it."""
