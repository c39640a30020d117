"""Silence around what diffusers and transformers print while they load, write and sample."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from limbeck.spaces.hub import optional, quiet

__all__ = ["diffusers", "logging_off"]


def diffusers() -> Any:
    """The package diffusers.

    Raises:
        MissingDependency: it is not installed.
    """
    return optional("diffusers", "diffusers", "a generative prior", "diffusion")


@contextmanager
def logging_off() -> Iterator[None]:
    """Silences progress bars, notes and deprecations of both libraries, and restores them."""
    from diffusers.utils import logging

    verbosity = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        logging.enable_progress_bar()
