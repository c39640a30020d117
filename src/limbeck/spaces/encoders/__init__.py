"""Encoders: one file is one family, and the file's name is the encoder's name."""
