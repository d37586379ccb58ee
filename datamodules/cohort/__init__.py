"""Which scans there are, which can be used, with which label, and how patients are split."""
