"""Captioners: one file is one way to caption an image."""
