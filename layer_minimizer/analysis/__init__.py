"""Read files without running them: ELF headers, imports, pickles."""
