"""What is looked at before anything is trained: quality, exclusions, balance, duplicates, precision and cost."""
