"""Recipes that come with the package: configuration files, each as published."""

from pathlib import Path

from limbeck.errors import UnknownName

__all__ = ["config_file", "recipes"]

FOLDER = Path(__file__).parents[1] / "recipes"


def recipes() -> dict[str, str]:
    """The names of the recipes with the first line of each.

    Example:
        >>> recipes()["mtt_vl-flickr30k-100"]
        'MTT-VL on Flickr30k, 100 pairs, as published.'
    """
    found = {}
    for path in sorted(FOLDER.glob("*.yaml")):
        with path.open(encoding="utf-8") as file:
            found[path.stem] = file.readline().removeprefix("#").strip()
    return found


def config_file(given: str) -> Path:
    """The file that `--config` names: a path, or `recipe:NAME`.

    Raises:
        UnknownName: there is no such recipe.
    """
    kind, colon, name = given.partition(":")
    if not colon or kind != "recipe":
        return Path(given)
    if name not in recipes():
        raise UnknownName("recipe", name, recipes())
    return FOLDER / f"{name}.yaml"
