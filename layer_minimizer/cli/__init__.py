"""The command line: arguments become jobs, jobs run the stages, results are printed. The only room that prints."""
