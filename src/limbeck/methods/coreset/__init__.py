"""Coresets: real samples that a rule chooses."""
