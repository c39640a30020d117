"""Tiny random models of transformers, written to folders as `save_pretrained` writes them."""

import json
from pathlib import Path
from typing import Any

from torch import nn

TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
WORDS = [
    "a",
    "red",
    "square",
    "photo",
    "of",
    "small",
    "dog",
    "on",
    "very",
    "long",
    "sandy",
    "beach",
    "at",
    "night",
    "rain",
]
TEXTS = ["a red square", "a photo of a small dog on a very long sandy beach at night", "rain"]


def write_tokenizer(folder: Path, names: list[str]) -> None:
    """A tokenizer of whole words, whose texts end in the token that CLIP pools at."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *WORDS, "[END]"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[END]", vocabulary["[END]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [END]", special_tokens=ends)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        eos_token="[END]",
        model_max_length=16,
        model_input_names=names,
    ).save_pretrained(folder)


def write_processor(folder: Path, kind: str, **numbers: Any) -> None:
    processor = {"image_processor_type": kind, "do_resize": True, "do_rescale": True, "do_normalize": True}
    processor |= {"rescale_factor": 1 / 255, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.25] * 3, **numbers}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def loud(model: nn.Module) -> nn.Module:
    """The model with weights that make different inputs differ; its own are too small for that."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.2)
    return model
