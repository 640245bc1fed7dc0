"""Seeded runs of the session core in virtual time, judged by `tests.oracle.history`. `python -m tests.simulation`."""
