"""Find out what a workload uses: traced runs, saved traces, logs of production, the search for stand-ins."""
