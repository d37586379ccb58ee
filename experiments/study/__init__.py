"""A study on disk: its runs, its folders, its settings, its scans."""
