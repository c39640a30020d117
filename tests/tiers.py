"""Which cases of a test run by default."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(values: Iterable[Any], *quick: Any) -> list[Any]:
    """The values as parameters of a test, of which all but those that are `quick` run with the slow tests."""
    cases = list(values)
    assert all(q in cases for q in quick), f"{quick} are not all among the cases"
    return [value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in cases]
