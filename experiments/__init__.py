"""The commands of regionwise: one word, one file. Start at ``__main__``."""
