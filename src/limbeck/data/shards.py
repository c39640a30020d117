"""Tar shards: the members of each sample, and the shards that a path or a pattern names."""

import glob
import os
import re
import tarfile
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from limbeck.data.layout import ImageRef, Skipped
from limbeck.data.parse import Unreadable
from limbeck.data.regular import Place, open_regular
from limbeck.errors import ConfigError, DataError, LimbeckWarning
from limbeck.limits import FILE, SHARDS, TEXT_FILE

__all__ = ["TEXTS", "Member", "Sample", "expand", "names_of_shards", "read_shard", "shards_in"]

TEXTS = ("txt", "text", "caption", "json", "cls")
MOST_BRACES = 32
RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")


@dataclass(frozen=True)
class Member(ImageRef):
    """A file inside a tar file, read by its offset.

    Args:
        path: the tar file.
        offset: of its first byte.
        size: bytes.
        shard: size and times of change of the tar file.
        text: its content, where that is text.
    """

    path: str
    offset: int
    size: int
    shard: tuple[int, ...]
    text: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The bytes of the member.

        Raises:
            Unreadable: there are more than a `FILE` may have.
        """
        if self.size > FILE.most:
            raise Unreadable(f"a member of {FILE}")
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    @property
    def stamp(self) -> tuple[Any, ...]:
        """Where it lies, and the stamp of the tar file."""
        return self.path, self.offset, self.size, *self.shard


@dataclass
class Sample:
    """The members of one key.

    Args:
        key: the path before the first dot.
        where: the shard, and its first member.
        shard: in which it lies.
        members: by what follows the first dot, in lower case.
    """

    key: str
    where: str
    shard: Path
    members: dict[str, Member] = field(default_factory=dict)


def read_shard(shard: Path, split: str | None, skipped: list[Skipped]) -> Iterator[Sample]:
    """The samples of one shard, in order.

    Args:
        shard: a tar file.
        split: of all its samples, for those that are skipped.
        skipped: takes the members that cannot be: unsafe, special and repeated ones.

    Raises:
        DataError: no whole, uncompressed tar file.
    """
    samples: dict[str, Sample] = {}
    stat = shard.stat()
    for member, content in _members(shard):
        where = f"{shard}: {member.name}"
        parts = PurePosixPath(member.name.replace("\\", "/"))
        stem, _, extension = parts.name.partition(".")
        if parts.is_absolute() or ".." in parts.parts:
            skipped.append(Skipped(member.name, "a member that leads out of its shard", where, split))
            continue
        if not member.isreg():
            skipped.append(Skipped(member.name, "not a regular file", where, split))
            continue
        if not stem or not extension:
            continue  # hidden files, and files without an extension, are no part of the format
        key, extension = str(parts.with_name(stem)), extension.lower()
        sample = samples.setdefault(key, Sample(key, where, shard))
        if extension in sample.members:
            skipped.append(Skipped(key, "duplicate key", where, split))
            continue
        facts = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
        sample.members[extension] = Member(str(shard.absolute()), member.offset_data, member.size, facts, content)
    yield from samples.values()


def _members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, bytes | None]]:
    """Members in order, with the content of those that are text and not too long; also of archives that were put behind each other."""
    try:
        with open_regular(shard) as raw:
            size, start = os.fstat(raw.fileno()).st_size, 0
            while start < size or not start:
                raw.seek(start)
                with tarfile.open(fileobj=raw, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                    for member in tar:
                        if member.isdir():
                            continue
                        text = member.isreg() and member.name.lower().rpartition(".")[2] in TEXTS
                        file = tar.extractfile(member) if text and member.size <= TEXT_FILE.most else None
                        yield member, file.read() if file else None
                        if member.offset_data + member.size > size:
                            raise tarfile.ReadError("unexpected end of data")
                    start = _behind(shard, raw, tar.offset, size)  # where it saw no header, and gave up without a word
    except DataError:
        raise
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise DataError(f"{shard} is no whole, uncompressed tar file ({error}); fetch or write it again") from error
    except OSError as error:
        raise DataError(f"{shard} cannot be read: {error}") from error


def _behind(shard: Path, raw: BinaryIO, end: int, size: int) -> int:
    """Where another archive begins behind the one that ends at `end`; `size` where none does.

    Raises:
        tarfile.ReadError: something else than the zeros that end an archive stands there.
    """
    raw.seek(end)
    if end >= size:
        warnings.warn(
            f"{shard} lacks the zeros that end a tar file: it may have been cut off, and what was behind is not read",
            LimbeckWarning,
            stacklevel=2,
        )
        return size
    if raw.read(tarfile.BLOCKSIZE).strip(b"\0") or end + tarfile.BLOCKSIZE > size:
        raise tarfile.ReadError(f"a damaged header at byte {end:,}")
    at = end + tarfile.BLOCKSIZE
    while block := raw.read(1 << 20):
        if rest := block.lstrip(b"\0"):
            return at + (len(block) - len(rest)) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE
        at += len(block)
    return size


def shards_in(spec: str, source: str) -> list[Path]:
    """The tar files that a folder, a file, a glob pattern or a brace pattern names.

    Args:
        spec: the path.
        source: its name, for errors.

    Raises:
        DataError: nothing is there.
        ConfigError: braces that name more than a million shards.
    """
    shards: list[Path] = []
    for pattern in expand(spec):
        path = Path(pattern)
        if os.path.isdir(path):  # unlike Path, no error for a name that is too long
            shards += [_within(path, p, source) for p in sorted(path.rglob("*.tar")) if not p.is_dir()]
        elif os.path.exists(path):
            shards.append(path)
        elif "{" in spec:
            raise DataError(f"{source}: there is no {pattern}; check the pattern")
        else:
            shards += sorted(Path(p) for p in glob.glob(pattern, recursive=True))
    if not shards:
        raise DataError(f"{source}: there is no tar file at {Path(spec).absolute()}; check the path")
    return shards


def _within(folder: Path, shard: Path, source: str) -> Path:
    try:
        Place(folder).check(shard)
    except Unreadable as error:
        raise DataError(f"{source}: {shard} is {error}; give the path of the shard itself") from error
    return shard


def names_of_shards(shards: Sequence[Path]) -> dict[Path, str]:
    """What tells each shard from the others: its name, with those of its folders where names repeat."""
    stems = Counter(shard.stem for shard in shards)
    return {s: s.stem if stems[s.stem] == 1 else f"{s.parent.name}/{s.stem}" for s in shards}


def expand(spec: str) -> list[str]:
    """A pattern such as `a-{00..11}.tar` or `{x,y}.tar` spelled out.

    Raises:
        ConfigError: more than a million names, or more braces than a person writes.

    Example:
        >>> expand("{a,b}-{08..09}")
        ['a-08', 'a-09', 'b-08', 'b-09']
    """
    if spec.count("{") > MOST_BRACES:
        raise ConfigError(f"{spec[:60]!r}... has {spec.count('{')} braces; at most {MOST_BRACES} are spelled out")
    sizes = [_size(group) for group in re.findall(r"\{([^{}]*)\}", spec)]
    if prod(sizes) > SHARDS.most:
        raise ConfigError(f"{spec[:60]} names {SHARDS}")
    names = list(islice(_braces(spec), SHARDS.most + 1))
    if len(names) > SHARDS.most:
        raise ConfigError(f"{spec[:60]} names {SHARDS}")
    return names


def _size(group: str) -> int:
    """How many names a pair of braces stands for."""
    numbers = RANGE.fullmatch(group)
    return max(int(numbers[2]) - int(numbers[1]) + 1, 1) if numbers else group.count(",") + 1


def _braces(spec: str) -> Iterator[str]:
    match = re.search(r"\{([^{}]*)\}", spec)
    if not match:
        yield spec
        return
    numbers = RANGE.fullmatch(match[1])
    middle = (
        (str(i).zfill(len(numbers[1])) for i in range(int(numbers[1]), int(numbers[2]) + 1))
        if numbers
        else match[1].split(",")
    )
    for one in middle:
        yield from _braces(spec[: match.start()] + one + spec[match.end() :])
