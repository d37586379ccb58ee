"""From what a user has on disk to scans with scores: raw BIDS folders, clinical tables, public datasets."""
