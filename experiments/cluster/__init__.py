"""Slurm: resources, scripts as pure text, submissions."""
