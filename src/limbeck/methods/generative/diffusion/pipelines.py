"""Pipelines of diffusers as they lie in folders and on the hub: what is read of one before it is opened, and how one is written."""

import inspect
import json
import os
from collections.abc import Iterable
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from limbeck.data.plain import PLAIN, TEXT, read_json
from limbeck.errors import ConfigError, StorageError
from limbeck.methods.generative.diffusion.logging_off import diffusers, logging_off
from limbeck.runtime.cache import digest
from limbeck.runtime.files import checksums, flush, foreign_files, sha256, work_folder, write_text, writing
from limbeck.spaces.hub import read

__all__ = [
    "factor_of",
    "pipeline_folder",
    "prior_fingerprint",
    "read_index",
    "refuse_others",
    "side_of",
    "write_pipeline",
]

PARTS = ("unet", "transformer", "vae", "text_encoder", "tokenizer", "scheduler")  # and their folders
INDEX, CARD, MANIFEST = "model_index.json", "README.md", "pipeline.json"


def read_index(folder: Path) -> dict[str, Any]:
    """What `model_index.json` of a pipeline's folder says.

    Raises:
        ConfigError: it cannot be read, or names what diffusers and transformers do not hold.
    """
    remedy = "fetch or make the pipeline again"
    found: dict[str, Any] = read_json(
        folder / "model_index.json", {"_class_name?": TEXT, "*": PLAIN}, remedy, ConfigError
    )
    named = {"the pipeline": ["diffusers", found["_class_name"]]} if "_class_name" in found else {}
    named |= {key: value for key, value in found.items() if isinstance(value, list)}
    for part, value in named.items():
        if value and isinstance(value[0], str) and not _is_known(*map(str, value[:2])):
            raise ConfigError(
                f"{folder / 'model_index.json'} names {'.'.join(map(str, value[:2]))} for {part}, which neither diffusers nor "
                "transformers holds; code of other modules is not run: take a pipeline without it"
            )
    return found


def _is_known(library: str, kind: str = "") -> bool:
    """Whether diffusers (or the module of one of its pipelines) or transformers holds a class."""
    module = library if library in ("diffusers", "transformers") else f"diffusers.pipelines.{library}"
    if not library.isidentifier():
        return False
    try:
        return kind.isidentifier() and inspect.isclass(getattr(import_module(module), kind, None))
    except ImportError:
        return False


def pipeline_folder(name: str, **options: Any) -> Path:
    """The folder of a pipeline, fetched from the hub where it is none, with nothing in it that runs.

    Args:
        name: a folder, or a name on the hub.
        options: of `DiffusionPipeline.download`.

    Raises:
        ConfigError: there is no such pipeline, it holds Python code, or its index names what is not known.
    """
    folder = Path(name)
    if not folder.is_dir():
        if commit := _hub_file(name):
            read_index(commit.parent)  # before anything else is fetched
        folder = Path(read(diffusers().DiffusionPipeline.download, name, use_safetensors=True, **options))
    if code := sorted(folder.rglob("*.py")):
        raise ConfigError(
            f"the pipeline {name} holds code of its own ({code[0].relative_to(folder)}), which is not run; take one without, or "
            "remove the file if the pipeline works without it"
        )
    read_index(folder)
    return folder


def factor_of(vae: Any) -> int:
    """Pixels a side that one latent of a VAE stands for."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def side_of(denoiser: Any) -> int:
    """Latents a side that a denoiser was made for."""
    size = denoiser.config.sample_size
    return int(size if isinstance(size, int) else size[0])


def _hub_file(name: str) -> Path | None:
    """`model_index.json` of a hub pipeline in the folder of its commit; `None` where it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(name, "model_index.json")) if name else None
    except (OSError, HfHubHTTPError, HFValidationError):
        return None


def refuse_others(folder: Path) -> None:
    """Refuses a folder that holds, under the names of a pipeline, what `write_pipeline` did not write.

    Raises:
        StorageError: it does.
    """
    _check(folder, [*PARTS, INDEX, CARD])


def write_pipeline(pipe: Any, folder: Path, card: str) -> None:
    """Writes a pipeline into a folder, which may hold other things; `model_index.json`, which makes it one, comes last.

    `pipeline.json` there names, before anything else, each file with its SHA-256: what it does not name is never touched. The
    same pipeline is written to the same bits, whatever its tokenizer was asked before.

    Args:
        pipe: of diffusers.
        folder: is made where it is not there.
        card: the text of its README.md.

    Raises:
        StorageError: the folder holds something else under one of these names, or cannot be written.
    """
    for part in ("", "_2", "_3"):
        tokenizer, encoder = (getattr(pipe, f"{name}{part}", None) for name in ("tokenizer", "text_encoder"))
        if tokenizer is not None:  # fast ones are saved with what they were last asked
            most = getattr(getattr(encoder, "config", None), "max_position_embeddings", None) or 300
            tokenizer([""], padding="max_length", max_length=min(tokenizer.model_max_length, most), truncation=True)
    with writing(folder), work_folder(folder / INDEX) as work:
        made, gone = work / "new", work / "gone"
        made.mkdir()
        gone.mkdir()
        (made / CARD).write_text(card, encoding="utf-8")
        mode = (made / CARD).stat().st_mode & 0o777
        with logging_off():
            _save(pipe, made)
        for path in sorted(made.rglob("*"), reverse=True):
            if path.is_file():
                path.chmod(mode)  # safetensors makes files that only their owner reads
            flush(path)
        _check(folder, os.listdir(made))
        write_text(folder / MANIFEST, json.dumps({"limbeck": "pipeline", "files": checksums(made)}, indent=1) + "\n")
        for path in sorted(made.iterdir(), key=lambda p: p.name == INDEX):
            target = folder / path.name
            if target.exists():
                os.replace(target, gone / path.name)  # ours: `_check` found every file of it in the manifest
            os.replace(path, target)
        flush(folder)


def _save(pipe: Any, folder: Path) -> None:
    try:
        pipe.save_pretrained(folder)
    except Exception as error:
        if type(error) is Exception:  # tokenizers tells so that a file cannot be written
            raise OSError(str(error)) from error
        raise


def _check(folder: Path, names: Iterable[str]) -> None:
    """Refuses what lies in `folder` under some names and is not in its manifest."""
    foreign = set(foreign_files(folder, MANIFEST)) if folder.is_dir() else set()
    if others := sorted(path for path in foreign if path.split("/")[0] in names):
        raise StorageError(
            f"{folder} holds {', '.join(others[:3])}, which is in the way of the pipeline and none of it; move it elsewhere, and give the same "
            "command again"
        )


def prior_fingerprint(name: str) -> str:
    """A digest of the files of a pipeline in a folder; of one on the hub, its name and commit.

    Args:
        name: folder or hub name.
    """
    folder = Path(name)
    if not name or not folder.is_dir():
        commit = _hub_file(name)
        return digest(name, commit.parent.name if commit else "")
    files = [p for part in PARTS for p in sorted((folder / part).glob("*")) if p.is_file()]
    return digest(*[[p.relative_to(folder).as_posix(), _file_digest(p, p.stat().st_mtime_ns)] for p in files])


@lru_cache(maxsize=256)
def _file_digest(path: Path, changed: int) -> str:
    """Of a file as it was at that time; weights are large, and asked for often."""
    return sha256(path)
