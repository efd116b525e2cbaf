"""The command line: arguments become jobs, jobs run the stages, results are printed. Nothing else prints."""
