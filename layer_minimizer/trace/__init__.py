"""Record what a workload uses: traced runs, saved traces, production logs, and the search for stand-ins."""
