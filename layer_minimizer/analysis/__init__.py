"""Read files without executing them: ELF headers, import statements, pickles."""
