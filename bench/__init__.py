"""Measurements: each prints a table and leaves its figures in bench/results/."""
