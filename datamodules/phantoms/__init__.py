"""Synthetic cohorts with a planted truth."""
