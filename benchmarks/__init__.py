"""Measurements: what a training costs, where its time goes, and what the same work costs with other tools.

Run with ``python -m benchmarks`` (``make bench``); each module but ``hardware``, ``table`` and ``figure`` answers one question.
"""
