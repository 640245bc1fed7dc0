"""Whole media files, in and out. Knows no models and no sockets."""
