"""A prepared scan's quality: measures and limits."""
