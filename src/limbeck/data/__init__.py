"""Batches, modalities, sources, decoding, and the content-addressed cache."""

from limbeck.data.batch import Batch, Captions
from limbeck.data.modality import Modality
from limbeck.data.pairs import PairIndex
from limbeck.data.source import Source
from limbeck.limits import scaled_limits
from limbeck.runtime.cache import Cache, digest, verifying
from limbeck.runtime.runtime import Runtime

__all__ = [
    "Batch",
    "Cache",
    "Captions",
    "Modality",
    "PairIndex",
    "Runtime",
    "Source",
    "digest",
    "scaled_limits",
    "verifying",
]
