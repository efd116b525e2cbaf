"""Run programs: observed runs of the workload, processes with a time limit, container engines."""
