"""Captions of any image-to-text model that transformers opens: BLIP, BLIP-2, GIT, and models that chat about images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from limbeck.annotation.annotator import Captioner
from limbeck.annotation.pretrained import Pretrained
from limbeck.constraints import Count
from limbeck.errors import ConfigError
from limbeck.spaces.hub import fetch_card, quiet, read

__all__ = ["HuggingFace"]

QUESTION = "Describe this image in one short sentence."


@dataclass(frozen=True)
class HuggingFace(Pretrained, Captioner):
    """A model on huggingface.co, or in a folder that `save_pretrained` wrote, which puts images into words: `hf:NAME`.

    It is greedy: of each next word the likeliest, so that the same images give the same captions.

    Args:
        name: a model on the hub (`Salesforce/blip-image-captioning-base`) or a folder.
        batch_size: images at a time.
        max_tokens: at which a caption is cut.
        prompt: what a model that chats is asked; by default for one short sentence.

    Raises:
        ConfigError: the model cannot be read, puts no images into words, or does not chat and has a prompt.

    Paper: Li et al., BLIP: bootstrapping language-image pre-training, ICML 2022.
    """

    batch_size: Count = 8
    max_tokens: Count = 40
    prompt: str = ""

    @property
    def what(self) -> str:
        """That nobody has looked at them."""
        return "these captions were written by a model and looked at by nobody"

    @cached_property
    def _processor(self) -> Any:
        """What prepares images and texts for the model; small beside its weights."""
        from transformers import AutoConfig, AutoProcessor

        fetch_card(self.name)
        read(AutoConfig.from_pretrained, self.name)  # one file tells that there is no such model
        processor = read(AutoProcessor.from_pretrained, self.name)
        if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
            raise ConfigError(f"hf:{self.name} has no processor of both images and texts; it cannot caption")
        if self.prompt and not getattr(processor, "chat_template", None):
            raise ConfigError(f"hf:{self.name} does not chat; leave prompt out")
        processor.tokenizer.padding_side = "left"  # texts go on where they end
        return processor

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        """The processor and the model."""
        from transformers import AutoModelForImageTextToText

        processor = self._processor
        with torch.random.fork_rng(devices=[]):  # constructors draw weights before they load them
            return processor, read(AutoModelForImageTextToText.from_pretrained, self.name)

    def ready(self) -> None:
        """Looks the model up."""
        self._processor  # noqa: B018

    def to(self, device: str) -> "HuggingFace":
        """Moves the model."""
        self._loaded[1].to(device)
        return self

    def caption(self, images: Sequence[Any], classes: Sequence[str | None]) -> list[str]:
        """What the model says of each image; it does not see the classes."""
        held = [list(images[i : i + self.batch_size]) for i in range(0, len(images), self.batch_size)]
        return [text for batch in held for text in self._say(batch)]

    def describe_each(self, images: Sequence[Any], count: int) -> list[list[str]]:
        """The `count` likeliest of as many beams, likeliest first; they may be alike but for a word."""
        held = [list(images[i : i + self.batch_size]) for i in range(0, len(images), self.batch_size)]
        texts = [text for batch in held for text in self._say(batch, count)]
        return [texts[i : i + count] for i in range(0, len(texts), count)]

    def _say(self, images: list[Any], count: int = 1) -> list[str]:
        processor, model = self._loaded
        with quiet(), torch.no_grad():
            asked = self._asked(processor, images).to(model.device, model.dtype)
            how = {"max_new_tokens": self.max_tokens, "do_sample": False}
            said = model.generate(**asked, **how, num_beams=count, num_return_sequences=count)
        question = asked.get("input_ids")
        if question is not None and torch.equal(said[::count, : question.shape[1]], question):
            said = said[:, question.shape[1] :]  # models that repeat what they were asked
        texts = processor.tokenizer.batch_decode(said, skip_special_tokens=True)
        return [" ".join(text.split()) for text in texts]

    def _asked(self, processor: Any, images: list[Any]) -> Any:
        if getattr(processor, "chat_template", None):  # else it captions without being asked
            question = {"type": "text", "text": self.prompt or QUESTION}
            turns = [[{"role": "user", "content": [{"type": "image", "image": one}, question]}] for one in images]
            how = {"tokenize": True, "return_dict": True, "return_tensors": "pt", "padding": True}
            return processor.apply_chat_template(turns, add_generation_prompt=True, **how)
        return processor(images=images, return_tensors="pt")
