"""The words of the command line, one a file; nothing imports a command but the entry point."""
