"""What a study's networks say of scans that nobody has assessed: probability, set of labels, quality, distance."""
