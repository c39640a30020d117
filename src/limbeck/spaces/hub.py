"""Reading models that other packages know, from the hub or from a folder: quietly, and with errors that help."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from limbeck.data.plain_yaml import parse_yaml
from limbeck.errors import ConfigError, LimbeckError, MissingDependency

__all__ = ["card_of", "fetch_card", "licence_of", "optional", "quiet", "read"]

T = TypeVar("T")
BROUGHT_BY = {"pkg_resources": "'setuptools<81'", "cv2": "opencv-python-headless"}  # modules of other packages


def optional(module: str, package: str, what: str, command: str | None = None) -> Any:
    """The imported `module` of an optional package.

    Args:
        module: its name.
        package: its name for pip.
        what: needs it.
        command: the extra of ours that brings it, or the whole command that installs it; by default `pip install PACKAGE`.

    Raises:
        MissingDependency: it is not installed, or something that it needs is not.
        ConfigError: it is installed, and broken.
    """
    try:
        return import_module(module)
    except ImportError as error:
        lacking = (error.name or module).split(".")[0]
        if isinstance(error, ModuleNotFoundError) and lacking != module.split(".")[0]:
            raise MissingDependency(what, BROUGHT_BY.get(lacking, lacking)) from error
        if not isinstance(error, ModuleNotFoundError):
            raise ConfigError(f"{what}: the installed {package} cannot be imported: {error}") from error
        raise MissingDependency(what, package, command) from error
    except (RuntimeError, OSError) as error:  # a build for another torch, a shared library that is not there
        raise ConfigError(f"{what}: the installed {package} cannot be imported: {error}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silences the progress bars and the notes that transformers prints while it loads, and restores them."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    logging.set_verbosity(40)  # errors
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def read(load: Callable[..., T], name: str, **options: Any) -> T:
    """`load(name, **options)` of a `from_pretrained`, quietly; code that comes with a model is not run.

    Raises:
        ConfigError: there is no such model, here or on the hub, or it cannot be read.
    """
    from safetensors import SafetensorError

    if getattr(getattr(load, "__self__", None), "__name__", "").startswith("Auto"):
        options["trust_remote_code"] = False  # else transformers asks on the terminal
    try:
        with quiet():
            return load(name, **options)
    except LimbeckError:
        raise
    except (
        OSError,
        ValueError,
        LookupError,
        ImportError,
        AttributeError,
        TypeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(
            f"the model {name!r} cannot be read: {reason} "
            "(give a name on huggingface.co while online, or a folder that save_pretrained wrote)"
        ) from error


def card_of(name: str) -> str:
    """The text of a model's card: of a folder, or of a hub model that was downloaded before; else empty."""
    path = Path(name) / "README.md"
    if not path.is_file() and not Path(name).exists():
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            found = try_to_load_from_cache(name, "README.md")
        except HFValidationError:
            return ""
        path = Path(found) if isinstance(found, str) else path
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def licence_of(name: str) -> str:
    """The licence in a model's card, see `card_of`, by its own name where the card says "other"; else `"unknown"`.

    Example:
        >>> licence_of("no/such-model")
        'unknown'
    """
    front = re.match(r"---\s*\n(.*?)\n---", card_of(name), re.DOTALL)
    try:
        said = parse_yaml(front.group(1)) if front else {}
    except ValueError:
        said = {}
    said = said if isinstance(said, dict) else {}
    found = said.get("license") or "unknown"
    if found == "other":
        found = said.get("license_name") or said.get("license_link") or found
    return ", ".join(map(str, found)) if isinstance(found, list) else str(found)


def fetch_card(name: str) -> None:
    """Fetches the card of a hub model, which says its licence, as loading leaves it out; nothing where it cannot be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not Path(name).exists():
        with suppress(OSError, HfHubHTTPError, HFValidationError):
            hf_hub_download(name, "README.md")
