"""`limbeck list`."""

from dataclasses import dataclass

from limbeck import registry
from limbeck.commands._describe import spaces, summary
from limbeck.commands._options import Answer, Command
from limbeck.commands._recipes import recipes
from limbeck.errors import UnknownName
from limbeck.runtime.progress import ProgressCallback
from limbeck.terminal import columns

__all__ = ["List"]

OTHERS = {"space": spaces, "recipe": recipes}  # what is no file of a class each


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """Names the methods, sources, encoders, protocols, networks, captioners, segmenters, ready spaces and recipes.

    Args:
        kind: methods, sources, encoders, protocols, networks, captioners, segmenters, spaces or recipes; by default all of them.
    """

    words = "kind"

    kind: str = "all"

    def execute(self, tick: ProgressCallback) -> Answer:
        """Reads the registry, and source text; imports none of what it names."""
        known = [f"{kind}s" for kind in (*registry.KINDS, *OTHERS)]
        wanted = list(known) if self.kind == "all" else [self.kind if self.kind.endswith("s") else f"{self.kind}s"]
        if wanted[0] not in known:
            raise UnknownName("kind", self.kind, known)
        entries = {plural: _entries(plural.removesuffix("s")) for plural in wanted}
        lines = []
        for plural, described in entries.items():
            lines += [f"{plural}:", *(f"  {line}" for line in columns(list(described.items()), left=2)), ""]
        return Answer("\n".join(lines).rstrip(), entries)


def _entries(kind: str) -> dict[str, str]:
    return OTHERS[kind]() if kind in OTHERS else {name: summary(kind, name) for name in registry.names(kind)}
