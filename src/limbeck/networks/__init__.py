"""Trainable image networks: students, experts and random feature extractors. One file is one architecture.

Each is an `nn.Module` built as `Network(resolution, ..., generator=...)` that maps images in [0, 1] to `dim` features.
"""
