"""What is looked at before anything is trained: quality, exclusions, balance, doubles, precision and cost."""
