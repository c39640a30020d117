"""Segmenters: one file is one way to tell the object of an image."""
