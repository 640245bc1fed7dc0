"""Calls of outside services: within the deadline, again where it helps, not at all where it can't."""
