"""Encoders and spaces: from values to unit vectors."""

from limbeck.spaces.embed import Features, embed_source
from limbeck.spaces.space import Encoder, Space

__all__ = ["Encoder", "Features", "Space", "embed_source"]
