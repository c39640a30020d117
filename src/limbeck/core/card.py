"""`README.md` of a distilled set: the card that a person reads."""

import json
from typing import Any

from limbeck.core.distilled import DistilledSet

__all__ = ["card", "coverage", "generated_by"]


def card(small: DistilledSet, nbytes: int) -> str:
    """The dataset card: front matter, what it is, how it was made, licences.

    Args:
        small: the set.
        nbytes: of all its files, this one included.
    """
    method, space = small.recipe.method, small.recipe.space
    encoders = ", ".join(f"{m}: {e['name']} ({small.encoder_licences.get(m, 'unknown')})" for m, e in space.items())
    text = "embeddings; `captions` holds the nearest real caption" if "text" in small.tensors else "real captions"
    made = (
        f"{len(small)} synthetic samples ({nbytes:,} bytes) distilled from "
        f"`{small.recipe.source.get('name', 'unknown')}` by `{method.get('name', 'unknown')}` with Limbeck."
    )
    carried = [f"{k} {v}" for k, v in small.training.items()] + [f"{k} {v:.4g}" for k, v in small.hints.items()]
    if small.similarity:
        carried.append(f"the {small.similarity['kind']} similarity (`relation` of the loaded set)")
    lines = [
        "---",
        "license: other",
        f"license_name: {json.dumps(small.licence)}",
        "tags: [dataset-distillation, limbeck]",
        "configs:",
        f"- config_name: set-{small.fingerprint[:8]}",  # `datasets` caches by folder and config name: keep sets apart
        "  data_files:",
        "  - split: train",
        "    path: data/*.parquet",
        "---",
        "",
        f"# {small.name}",
        "",
        made,
        "",
        f"- Modalities: {', '.join(small.modalities)}" + (f" (text: {text})" if "text" in small.modalities else ""),
        f"- Licence of the data: {small.licence}",
        f"- Encoders: {encoders or 'none'}",
        *_learned(small),
        *([f"- Masks: {coverage(small)}"] if coverage(small) else []),
        *_generation(small),
        *([f"- Train a student with: {', '.join(carried)}"] if carried else []),
        _closeness(small),
        "",
        "Open it with `limbeck.load(folder)` (what a student reads) or `datasets.load_dataset(folder)` (the table).",
        "",
        "```yaml",
        small.recipe.yaml().rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)


def _learned(small: DistilledSet) -> list[str]:
    """Lines of the card about what was learned beside samples, and how far it went."""
    lines = []
    if small.soft_labels is not None:
        share = 100 * small.soft_labels.max(dim=1).values.mean()
        lines.append(
            f"- Labels: soft, `soft_label` holds a share of each class; the largest is {share:.0f} % on average"
        )
    if small.moved:
        cosine = sum(small.moved) / len(small.moved)
        lines.append(f"- Learned vectors: cosine {cosine:.2f} on average with those that the samples had of their own")
    return lines


def generated_by(small: DistilledSet) -> dict[str, Any]:
    """Licences of the weights that generated images and captions."""
    found = {"prior": small.generation.get("prior", {}).get("licence")}
    found["captioner"] = small.generation.get("captions", {}).get("licence")
    return {name: licence for name, licence in found.items() if licence}


def _generation(small: DistilledSet) -> list[str]:
    """Lines of the card about what generated the samples."""
    if not small.generation:
        return []
    prior, captions = small.generation["prior"], small.generation.get("captions")
    lines = [f"- Images: sampled from the prior {prior['name']} (licence of its weights: {prior['licence']})"]
    if captions:
        by = captions["by"]["name"]
        lines.append(
            f"- Captions: {small.pairs} of {len(small)} images, the first of each real, the others by {by} ({captions['stage']})"
        )
    if cut := small.generation["prompts"].get("truncated"):
        lines.append(f"- {cut} prompts are longer than the prior reads; it has seen their beginnings")
    return lines


def _closeness(small: DistilledSet) -> str:
    if small.generation:
        return "- A prior may repeat what it was trained on; `origin` names the sample of the prompt, `nearest_image` the nearest real image."
    return (
        "- Synthetic images start from real ones and may stay close to them; `origin` and `nearest_image` name which."
    )


def coverage(small: DistilledSet) -> str:
    """How much of the images counts as object, in words; empty without masks."""
    if small.coverage is None:
        return ""
    share, whole = 100 * small.coverage, int((small.coverage == 1).sum())
    spread = f"from {share.min():.0f} % to {share.max():.0f} %"
    text = f"the object takes {share.mean():.0f} % of an image on average, {spread}"
    return text + (f"; {whole} of {len(small)} samples count as object everywhere" if whole else "")
