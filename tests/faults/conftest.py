"""Fault tests use the same real server as integration tests."""

from tests.integration.conftest import serve

__all__ = ["serve"]
