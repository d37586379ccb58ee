"""A trained input in one folder that needs neither study, cohort nor network."""
