"""Seeded runs of the session core in virtual time, judged by `bench.history`. `python -m tests.simulation`."""
