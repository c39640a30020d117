"""A distilled set in the layouts that other tools read."""

import io
import json
import tarfile
from pathlib import Path
from typing import Literal, get_args

from limbeck.core.card import card
from limbeck.core.codec import png
from limbeck.core.distilled import DistilledSet
from limbeck.errors import ConfigError, StorageError
from limbeck.runtime.files import foreign_files, whole_folder

__all__ = ["Format", "export"]

Format = Literal["hf", "webdataset", "folder"]


def export(small: DistilledSet, folder: str | Path, to: str = "hf", shard: int = 1000) -> Path:
    """Writes a distilled set in another layout. Images and masks become 8-bit PNG; texts become readable captions.

    Args:
        small: the set.
        folder: where to write; it must not exist or be empty.
        to: `"hf"`, a Hugging Face dataset repository (also what `save` writes); `"webdataset"`, tar
            shards of `KEY.png`, `KEY.mask.png`, `KEY.txt` and `KEY.json`; `"folder"`, images beside `metadata.jsonl`, which
            `datasets.load_dataset("imagefolder")` opens, and their masks in `masks/`.
        shard: samples a tar file.

    Raises:
        ConfigError: an unknown layout, or one that cannot hold all modalities of the set.
        StorageError: the folder is not empty, or cannot be written; then it is as it was.

    Example:
        >>> import limbeck as lb, tempfile
        >>> problem = lb.Problem(lb.check.toy_source(), lb.space(image="convnet"), lb.Budget(pairs=4))
        >>> small = lb.distill(problem, lb.methods.Random())
        >>> sorted(p.name for p in export(small, tempfile.mkdtemp() + "/out", "folder").iterdir())[-2:]
        ['s00002.png', 's00003.png']
    """
    folder = Path(folder)
    if to not in get_args(Format):
        raise ConfigError(f"cannot export to {to!r}; known: {', '.join(get_args(Format))}")
    if folder.exists() and foreign_files(folder):
        raise StorageError(f"{folder} is not empty; choose another folder")
    if to == "hf":
        return small.save(folder)
    if lost := [m for m in small.modalities if m not in ("image", "mask", "text", "label")]:
        raise ConfigError(
            f"the layout {to!r} has no place for {', '.join(lost)}; export to 'hf', which keeps everything"
        )
    with whole_folder(folder) as made:
        if to == "folder":
            _write_folder(small, made)
        else:
            for start in range(0, len(small), shard):
                _write_shard(small, made / f"{start // shard:06d}.tar", range(start, min(start + shard, len(small))))
        (made / "README.md").write_text(card(small, small.nbytes).split("---\n", 2)[-1].lstrip(), encoding="utf-8")
    return folder


def _write_folder(small: DistilledSet, folder: Path) -> None:
    masks, lines = small.tensors.get("mask"), []
    if masks is not None:
        (folder / "masks").mkdir()
    for i, key in enumerate(small.keys):
        row = {"file_name": f"{key}.png"}
        (folder / row["file_name"]).write_bytes(_image(small, i))
        if masks is not None:
            row["mask_file_name"] = f"masks/{key}.png"
            (folder / row["mask_file_name"]).write_bytes(png(masks[i]))
        lines.append(json.dumps({**row, **_facts(small, i)}, ensure_ascii=False))
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _write_shard(small: DistilledSet, path: Path, rows: range) -> None:
    with tarfile.open(path, "w") as tar:
        for i in rows:
            facts = _facts(small, i)
            members = {"png": _image(small, i), "json": json.dumps(facts, ensure_ascii=False).encode()}
            if "mask" in small.tensors:
                members["mask.png"] = png(small.tensors["mask"][i])
            if small.captions[i]:
                members["txt"] = small.captions[i][0].encode()
            if "label" in facts:
                members["cls"] = str(facts["label"]).encode()
            for extension, data in members.items():
                info = tarfile.TarInfo(f"{small.keys[i]}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def _image(small: DistilledSet, i: int) -> bytes:
    if "image" not in small.tensors:
        raise ConfigError(f"{small.name} holds no images; export it with to='hf'")
    return png(small.tensors["image"][i])


def _facts(small: DistilledSet, i: int) -> dict[str, object]:
    facts: dict[str, object] = {"origin": small.origins[i]}
    if small.captions[i]:
        facts["text"] = small.captions[i][0]
    if len(small.captions[i]) > 1:
        facts["captions"] = list(small.captions[i])
    if small.labels is not None and small.labels[i] >= 0:
        facts["label"] = int(small.labels[i])
        if small.classes:
            facts["class"] = small.classes[int(small.labels[i])]
    return facts
