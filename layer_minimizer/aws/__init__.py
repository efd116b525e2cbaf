"""AWS: limits and runtimes of Lambda, publishing and downloading layers, the programs of the Lambda emulator."""
