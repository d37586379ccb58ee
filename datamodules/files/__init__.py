"""Files: atomic writes, tables, volumes, float16."""
