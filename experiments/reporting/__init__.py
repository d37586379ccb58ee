"""The report of a study: figures, tables and one self-contained page, made from its files alone."""
