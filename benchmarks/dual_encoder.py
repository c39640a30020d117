"""Trains a small CLIP from scratch on a source, and writes it as `save_pretrained` does: `--space.image hf:FOLDER --space.text hf:FOLDER`.

    python benchmarks/dual_encoder.py OUT [--spec scenes] [--option told=scene ...] [--seed 0] [--patch 4] [--width 96] [--steps 1200]

No jointly trained image-text weights come through pip, and a judge must not be the encoder that a loss has seen: this makes as many
independent ones as are wanted. It prints the recall of the validation split. The same loss as CLIP's, at a fixed temperature.
"""

import argparse
import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import limbeck as lb
from limbeck.evaluation.metrics import retrieval
from limbeck.objectives.contrastive import false_negatives, infonce

MEAN, STD = [0.5] * 3, [0.25] * 3


def tokenizer_of(captions, length):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[END]"]
    made = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.train_from_iterator(captions, trainers.WordLevelTrainer(special_tokens=special, min_frequency=1))
    # CLIP reads a text at its end token, which it knows as the largest number of the vocabulary
    vocabulary = sorted(made.get_vocab().items(), key=lambda x: x[1])
    order = [w for w, _ in vocabulary if w != "[END]"] + ["[END]"]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(order)}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [END]", special_tokens=[("[CLS]", order.index("[CLS]")), ("[END]", len(order) - 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", eos_token="[END]",
        model_max_length=length, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def model_of(tokenizer, a):
    from transformers import CLIPConfig, CLIPModel

    size = {"hidden_size": a.width, "intermediate_size": 3 * a.width, "num_attention_heads": 4}
    end = tokenizer.eos_token_id
    text = {**size, "num_hidden_layers": 2, "vocab_size": len(tokenizer), "max_position_embeddings": a.length, "eos_token_id": end,
            "bos_token_id": tokenizer.cls_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    image = {**size, "num_hidden_layers": a.layers, "image_size": a.side, "patch_size": a.patch}
    torch.manual_seed(a.seed)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=64))


def vectors(model, pixels, tokens):
    image = model.get_image_features(pixel_values=(pixels - 0.5) / 0.25)
    text = model.get_text_features(**tokens)
    return [F.normalize(x if isinstance(x, torch.Tensor) else x.pooler_output, dim=1) for x in (image, text)]


@torch.no_grad()
def recall(model, tokenizer, source, a):
    model.eval()
    index = range(min(500, len(source)))
    held = [(i, c) for i in index for c in source.captions[i]]
    tokens = tokenizer([c for _, c in held], padding=True, truncation=True, max_length=a.length, return_tensors="pt")
    image, text = vectors(model, source.batch(index)["image"], tokens)
    return retrieval(image, text, torch.tensor(list(index)), torch.tensor([i for i, _ in held]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--spec", default="scenes")
    parser.add_argument("--option", nargs="*", default=[])
    for name, value in {
        "seed": 0,
        "patch": 4,
        "width": 96,
        "layers": 3,
        "steps": 1200,
        "batch": 128,
        "length": 24,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--noise", type=float, default=0.0)
    a = parser.parse_args()
    options = {
        k: json.loads(v) if v[:1] in "0123456789[{tf" and v not in ("text",) else v
        for k, v in (o.split("=") for o in a.option)
    }
    train = lb.source(a.spec, **options)
    a.side = train.modalities["image"].shape[-1]
    images = torch.cat([train.batch(part)["image"].mul(255).byte() for part in torch.arange(len(train)).split(500)])
    tokenizer = tokenizer_of([c for sample in train.captions for c in sample], a.length)
    model = model_of(tokenizer, a)
    optimizer = torch.optim.AdamW(model.parameters(), lr=a.rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, a.rate, a.steps, pct_start=0.1)
    draw, start = torch.Generator().manual_seed(a.seed), time.process_time()
    model.train()
    for t in range(a.steps):
        index = torch.randperm(len(train), generator=draw)[: a.batch]
        pick = torch.rand(len(index), generator=draw).tolist()
        said = [train.captions[i][int(p * len(train.captions[i]))] for i, p in zip(index.tolist(), pick, strict=True)]
        tokens = tokenizer(said, padding=True, truncation=True, max_length=a.length, return_tensors="pt")
        pixels = images[index].float() / 255
        shift = torch.randint(-2, 3, (2,), generator=draw).tolist()
        pixels = pixels.roll(shift, (2, 3))
        pixels = pixels + a.noise * torch.randn(pixels.shape, generator=draw)
        image, text = vectors(model, pixels, tokens)
        same = {text: i for i, text in enumerate(said)}
        loss = infonce(image @ text.T / 0.07, None, false_negatives(torch.tensor([same[s] for s in said])))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if t % 100 == 0:
            print(t, f"{loss.item():.3f}", f"{time.process_time() - start:.0f} CPU s", flush=True)
    found = recall(model, tokenizer, train.split("val"), a)
    model.save_pretrained(a.out)
    tokenizer.save_pretrained(a.out)
    processor = {"image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_rescale": True, "do_normalize": True,
                 "rescale_factor": 1 / 255, "resample": 3, "image_mean": MEAN, "image_std": STD, "do_center_crop": False,
                 "size": {"height": a.side, "width": a.side}}  # fmt: skip
    (a.out / "preprocessor_config.json").write_text(json.dumps(processor))
    print({k: round(v, 1) for k, v in found.items()}, f"{time.process_time() - start:.0f} CPU s", "->", a.out)


if __name__ == "__main__":
    main()
