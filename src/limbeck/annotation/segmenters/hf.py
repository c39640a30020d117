"""Masks of any semantic, instance or panoptic segmenter that transformers opens: SegFormer, MaskFormer, DETR and others."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.annotation.annotator import Segmenter
from limbeck.annotation.pretrained import Pretrained
from limbeck.constraints import Share
from limbeck.errors import ConfigError
from limbeck.spaces.hub import quiet, read

__all__ = ["HuggingFace"]

BACKGROUND = "background"


@dataclass(frozen=True)
class HuggingFace(Pretrained, Segmenter):
    """A model on huggingface.co, or in a folder that `save_pretrained` wrote, which names the parts of images: `hf:NAME`.

    A mask is all segments of one image that are its object: those of the labels that are named, or else, where the model
    knows the class of the image by a word (dog, "golden retriever dog"), those of the class, or else all but background.

    Args:
        name: a model on the hub (`facebook/mask2former-swin-tiny-coco-instance`) or a folder.
        label: the labels of the model that are object, with commas between; by default as said above.
        threshold: how sure the model must be of a segment; models of semantic segments do not say.

    Raises:
        ConfigError: the model cannot be read, makes no segments, or has no such label.

    Paper: Cheng et al., Masked-attention mask transformer for universal image segmentation, CVPR 2022.
    """

    label: str = ""
    threshold: Share = 0.9

    @property
    def what(self) -> str:
        """That nobody has looked at them."""
        return "these masks were drawn by a model and looked at by nobody"

    @cached_property
    def _loaded(self) -> Any:
        from transformers import pipeline

        with torch.random.fork_rng(devices=[]):  # constructors draw weights before they load them
            loaded = read(partial(pipeline, "image-segmentation"), self.name)
        if "Segmentation" not in type(loaded.model).__name__:
            raise ConfigError(f"hf:{self.name} is a {type(loaded.model).__name__}, which makes no segments")
        return loaded

    def to(self, device: str) -> "HuggingFace":
        """Moves the model."""
        self._loaded.device = torch.device(device)
        self._loaded.model.to(device)
        return self

    def segment(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[NDArray[Any]]:
        """The mask of each image; without object where no segment is one."""
        known = set(self._loaded.model.config.id2label.values())
        return [self._object(image, self.objects(name, known)) for image, name in zip(images, classes, strict=True)]

    def objects(self, name: str | None, known: Collection[str]) -> set[str]:
        """Which labels are object in an image.

        Args:
            name: the class of the image.
            known: the labels of the model.

        Raises:
            ConfigError: one that is named is not known.

        Example:
            >>> hf = HuggingFace("no/model")
            >>> known = ["dog", "traffic light", "background"]
            >>> hf.objects("Guide_dog", known), sorted(hf.objects("cat", known))
            ({'dog'}, ['dog', 'traffic light'])
        """
        if self.label:
            wanted = {label.strip() for label in self.label.split(",")}
            if lacking := sorted(wanted - set(known)):
                raise ConfigError(f"hf:{self.name} has no label {lacking[0]!r}; it has {', '.join(sorted(known))}")
            return wanted
        others = {label for label in known if label.lower() != BACKGROUND}
        return {label for label in others if _alike(_words(label), _words(name or ""))} or others

    def _object(self, image: Any, wanted: Collection[str]) -> NDArray[np.bool_]:
        with quiet():
            segments = self._loaded(image, threshold=self.threshold)
        inside = np.zeros((image.height, image.width), np.bool_)
        for segment in segments:
            if segment["label"] in wanted:
                inside |= np.asarray(segment["mask"]) > 0
        return inside


def _alike(label: set[str], name: set[str]) -> bool:
    return bool(label and name) and (label <= name or name <= label)


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", name.lower()))
