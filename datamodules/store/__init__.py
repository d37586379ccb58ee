"""Prepared volumes on disk: made once, found by content, shared by all."""
