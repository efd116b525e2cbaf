"""Run programs: the workload under observers, processes that end for sure, container engines."""
