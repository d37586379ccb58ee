"""Scans, labels, splits, prepared volumes and batches. Import from the files; each says in its first line what it holds."""
