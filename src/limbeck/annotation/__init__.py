"""Captions and masks for data that lack them, written beside the data."""

from limbeck.annotation.annotate import annotate
from limbeck.annotation.annotator import Annotator, Captioner, Knowledge, Segmenter

__all__ = ["Annotator", "Captioner", "Knowledge", "Segmenter", "annotate"]
