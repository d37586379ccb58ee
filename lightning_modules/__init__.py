"""The network, its training, its metrics and its callbacks; knows neither regions nor cohorts.

Import from the files: ``networks`` needs torch alone, the others need Lightning too.
"""
