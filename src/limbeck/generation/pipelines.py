"""Pipelines of diffusers as they lie in folders and on the hub: what is read of one before it is opened, and how one is written."""

import json
import os
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

from limbeck.data.cache import digest
from limbeck.data.files import sha256
from limbeck.errors import ConfigError
from limbeck.generation.quiet import quietly

__all__ = ["factor_of", "prior_fingerprint", "read_index", "side_of", "write_pipeline"]

PARTS = ("unet", "transformer", "vae", "text_encoder", "tokenizer", "scheduler")  # and their folders


def read_index(folder: Path) -> dict[str, Any]:
    """What `model_index.json` of a pipeline's folder says.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{folder / 'model_index.json'} cannot be read: {error}; fetch or make the pipeline again"
        ) from error
    return found


def factor_of(vae: Any) -> int:
    """Pixels a side that one latent of a VAE stands for."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def side_of(denoiser: Any) -> int:
    """Latents a side that a denoiser was made for."""
    size = denoiser.config.sample_size
    return int(size if isinstance(size, int) else size[0])


def _hub_commit(name: str) -> str:
    """The commit of a hub pipeline that is read, here or there; empty where it cannot be told."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(name, "model_index.json")).parent.name if name else ""
    except (OSError, HfHubHTTPError, HFValidationError):
        return ""


def write_pipeline(pipe: Any, folder: Path, card: str) -> None:
    """Writes a pipeline into a folder, which may hold other things; `model_index.json`, which makes it one, comes last.

    Args:
        pipe: of diffusers.
        folder: is made where it is not there.
        card: the text of its README.md.
    """
    work = folder / ".pipeline"
    shutil.rmtree(work, ignore_errors=True)
    with quietly():
        pipe.save_pretrained(work)
    (work / "README.md").write_text(card, encoding="utf-8")
    for path in sorted(work.iterdir(), key=lambda p: p.name == "model_index.json"):
        target = folder / path.name
        if target.is_dir():
            shutil.rmtree(target)
        os.replace(path, target)
    work.rmdir()


def prior_fingerprint(name: str) -> str:
    """A digest of the files of a pipeline in a folder; of one on the hub, its name and commit.

    Args:
        name: folder or hub name.
    """
    folder = Path(name)
    if not name or not folder.is_dir():
        return digest(name, _hub_commit(name))
    files = [p for part in PARTS for p in sorted((folder / part).glob("*")) if p.is_file()]
    return digest(*[[p.relative_to(folder).as_posix(), _file_digest(p, p.stat().st_mtime_ns)] for p in files])


@lru_cache(maxsize=256)
def _file_digest(path: Path, changed: int) -> str:
    """Of a file as it was at that time; weights are large, and asked for often."""
    return sha256(path)
