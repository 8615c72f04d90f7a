"""How a command starts and ends, and what it runs on: exit codes, memory, processes, signals, devices."""
