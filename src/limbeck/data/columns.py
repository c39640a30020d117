"""Which column of a table holds what: one list of names for all sources, and one rule where several fit."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from limbeck.data.parse import NUMBER
from limbeck.data.splits import word_split
from limbeck.data.unread import Unread, is_empty, kind_of
from limbeck.errors import DataError

__all__ = ["ROLES", "Columns", "known_names", "plain_name", "role_of"]

FILE = ("filename", "filepath", "file", "path", "filenames", "imagename")
ROLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "image": (
        ("image", "images", "img", "picture", "photo", "jpg", "jpeg", "png", "webp"),
        ("imagefilename", "imagefile", "imagepath", "imgfile", "imgpath", "imgname", "imagefilepath", "imgfilename"),
        FILE,
    ),
    "audio": (
        ("audio", "audios", "sound", "wav", "flac", "mp3", "ogg", "waveform"),
        (
            "audiofilename",
            "audiofile",
            "audiopath",
            "audioname",
            "soundfile",
            "soundpath",
            "wavfile",
            "wavpath",
            "soundname",
        ),
        FILE,
    ),
    "depth": (("depth", "depths"), ("depthmap", "depthfile", "depthpath", "depthfilename", "depthimage")),
    "mask": (
        ("mask", "masks"),
        ("maskfile", "maskpath", "maskfilename", "maskname", "segmentationmask", "segmentationmasks", "maskimage"),
    ),
    "caption": (
        ("caption", "captions"),
        ("text", "texts"),
        ("sentence", "sentences"),
        ("title", "description", "descriptions", "alttext", "comment", "comments", "prompt", "transcript", "txt"),
    ),
    "label": (
        ("label", "labels"),
        ("target", "targets", "classid", "classidx", "classindex", "categoryid", "labelid", "labelidx"),
        ("class", "classes", "cls"),
        ("category", "categories"),
        ("classname", "labelname", "categoryname", "species"),
    ),
    "class": (
        ("classname", "labelname", "categoryname", "labeltext"),
        ("class",),
        ("category",),
        ("species",),
    ),
    "split": (("split", "splits"), ("set", "subset", "partition", "splitname")),
    "key": (("key", "keys"), ("id", "uid", "sampleid")),
}
"""What a column can hold, and its usual names without case, blanks and marks, the surest first. Of two names on one line the cells
must agree; a line that has none filled leaves it to the next."""

NUMBERED = re.compile(r"(caption|captions|sentence|text|comment|description|raw)([0-9]{1,4})")


@lru_cache(10_000)
def plain_name(column: object) -> str:
    """The name of a column without what people write differently.

    Example:
        >>> plain_name(" File_Name"), plain_name("file-name")
        ('filename', 'filename')
    """
    return "".join(c for c in str(column).casefold() if c.isalnum())


def role_of(column: object, roles: Collection[str] = tuple(ROLES)) -> str | None:
    """What a column holds by its name alone."""
    plain = plain_name(column)
    if "caption" in roles and NUMBERED.fullmatch(plain):
        return "caption"
    return next((role for role in roles if any(plain in tier for tier in ROLES[role])), None)


def known_names(role: str) -> str:
    """The usual names of a role, for an error."""
    return ", ".join(dict.fromkeys(name for tier in ROLES[role] for name in tier[:3]))


class Columns:
    """Reads the rows of a table by what their columns hold, and counts the columns that nothing was read from.

    Args:
        table: its name, for errors.
        roles: what is looked for.
        named: role to the column that a person named for it; that must be there.
        unread: counts the other columns.
        what: columns are called in this format.
        first: plain names that this format itself has, and that therefore go before all others.
    """

    def __init__(
        self,
        table: object,
        roles: Collection[str],
        named: Mapping[str, str] | None = None,
        unread: Unread | None = None,
        what: str = "column",
        first: Collection[str] = (),
    ) -> None:
        self.table, self.roles, self.what, self.first = table, tuple(roles), what, frozenset(first)
        self.named = {role: name for role, name in (named or {}).items() if name}
        self.unread = Unread() if unread is None else unread
        self.met: dict[str, None] = {}  # every column, in order
        self.used: Counter[tuple[str, str]] = Counter()  # role and column, and how many rows
        self._plans: dict[tuple[str, ...], dict[str, list[list[str]]]] = {}

    def cells(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """What the row holds in each role; a role without a filled cell is left out. Several captions are one list.

        Raises:
            DataError: two columns of one role that say different things.
        """
        names = tuple(row)
        if names not in self._plans:
            self._plans[names] = self._plan(names)
        values: dict[str, Any] = {}
        used: set[str] = set()
        for role, tiers in self._plans[names].items():
            for tier in tiers:
                filled = [
                    c for c in tier if not is_empty(row[c]) and c not in used and _fits(role, row[c], c, self.named)
                ]
                if (
                    role == "class"
                    and values.get("label") is not None
                    and not _names_number(values["label"], row, filled)
                ):
                    continue
                if filled:
                    values[role] = self._one(role, filled, row)
                    used |= set(filled) | {c for other in tiers for c in other if row[c] == values[role]}
                    self.used.update((role, c) for c in filled)
                    break
        for column in names:
            numbers_rows = not plain_name(column) and str(row[column]).isdigit()  # the index of pandas
            if column not in used and not is_empty(row[column]) and not numbers_rows:
                self.unread.add(f"{self.what}s", column, cells=[row[column]])
        return values

    def wanted(self, names: tuple[str, ...]) -> set[str]:
        """The columns, of all that a table has, which may be read."""
        if names not in self._plans:
            self._plans[names] = self._plan(names)
        return {column for tiers in self._plans[names].values() for tier in tiers for column in tier}

    def said(self, role: str) -> str:
        """Which column a role was last read from, for a person."""
        return next((f"{self.what} {column!r}" for kept, column in reversed(self.used) if kept == role), "")

    def check(self) -> None:
        """Refuses a column that a person named and that no row fills.

        Raises:
            DataError: there is none.
        """
        filled = {column for _, column in self.used}
        for role, name in self.named.items():
            for column in self._columns(role, name, tuple(self.met)):
                if column not in filled:
                    listed = ", ".join(sorted(filled | set(self.unread.names(f"{self.what}s")))) or "none"
                    raise DataError(f"{self.table} has no filled {self.what} {column!r}; it has {listed}")

    def _plan(self, names: tuple[str, ...]) -> dict[str, list[list[str]]]:
        """For each role its columns, tier by tier."""
        self.met |= dict.fromkeys(map(str, names))
        plan: dict[str, list[list[str]]] = {}
        taken = {c for role, name in self.named.items() for c in self._columns(role, name, names)}
        for role in self.roles:
            if role in self.named:
                plan[role] = [[c for c in self._columns(role, self.named[role], names) if c in names]]
                continue
            free = [name for name in names if name not in taken]
            tiers = [[name for name in free if plain_name(name) in tier] for tier in ROLES.get(role, ())]
            if role == "caption":
                numbered = sorted((m[1], int(m[2]), n) for n in free if (m := NUMBERED.fullmatch(plain_name(n))))
                whole = [n for n in tiers[0] if n not in {n for _, _, n in numbered}]
                tiers[0] = whole + [n for _, _, n in numbered]
            own = [[n for n in tier if plain_name(n) in self.first] for tier in tiers]
            plan[role] = [tier for tier in [*own, *tiers] if tier]
        return plan

    def _columns(self, role: str, name: str, names: tuple[str, ...]) -> list[str]:
        """The columns that a person's name means: that which is called so, else one that is written differently, else a list."""
        if name in names:
            return [name]
        alike = [c for c in names if plain_name(c) == plain_name(name)]
        if len(alike) == 1:
            return alike
        if role == "caption" and "," in name:
            return [c for one in name.split(",") for c in self._columns("", one.strip(), names)]
        return [name]

    def _one(self, role: str, filled: Sequence[str], row: Mapping[str, Any]) -> Any:
        """The one cell of several columns, which must agree; of captions all."""
        if len(filled) == 1:
            return row[filled[0]]
        if role == "caption" and (
            role in self.named or (len({plain_name(c) for c in filled}) == len(filled) and _family(filled))
        ):
            return [text for c in filled for text in _listed(row[c])]
        if any(row[c] != row[filled[0]] for c in filled):
            option = {"split": "split_by column:NAME", "class": "label"}.get(role, role)
            raise DataError(
                f"{self.table}: {' or '.join(map(repr, filled))} could be the {role}; choose with --source.{option} (in Python "
                f"{option}=)"
            )
        return row[filled[0]]


def _fits(role: str, cell: Any, column: str, named: Mapping[str, str]) -> bool:
    """Whether a cell can be what the name of its column says; names that say little leave it to what stands there."""
    if role in named:
        return True
    plain = plain_name(column)
    if plain in FILE and role in ("image", "audio"):
        return (kind_of(cell) == "audio") == (role == "audio")
    if role == "split" and plain in ROLES["split"][1]:
        return word_split(cell) is not None
    if role == "class":
        return isinstance(cell, str)
    return True


def _names_number(label: Any, row: Mapping[str, Any], columns: Sequence[str]) -> bool:
    """Whether a label is a number and the cells beside it are names."""
    number = isinstance(label, int | float) or (isinstance(label, str) and bool(NUMBER.fullmatch(label.strip())))
    return number and not any(NUMBER.fullmatch(str(row[c]).strip()) for c in columns)


def _family(columns: Sequence[str]) -> bool:
    """Whether columns are those of several captions: caption and captions, text_0 and text_1."""
    return all(NUMBERED.fullmatch(plain_name(c)) or plain_name(c) in sum(ROLES["caption"][:3], ()) for c in columns)


def _listed(cell: Any) -> list[Any]:
    return list(cell) if isinstance(cell, list | tuple) else [cell]
