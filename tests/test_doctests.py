"""Every example in a docstring runs."""

import doctest
import importlib
import pkgutil

import pytest

import limbeck
from limbeck.errors import MissingDependency

MODULES = [m.name for m in pkgutil.walk_packages(limbeck.__path__, "limbeck.") if not m.name.endswith("__main__")]
DEAR = (
    "limbeck.methods.generative.diffusion.",
    "limbeck.evaluation.compare",
    "limbeck.evaluation.audit.run",
)  # take seconds


@pytest.mark.draws_globally  # an example may say torch.rand
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * n.startswith(DEAR)) for n in ("limbeck", *MODULES)]
)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL)
    said: list[str] = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner.run(test, out=said.append)
    missing = MissingDependency.__name__
    if (
        runner.failures
        and all(missing in text for text in said if "Exception raised" in text)
        and missing in "".join(said)
    ):
        pytest.skip("an optional package is not installed")
    assert not runner.failures, "".join(said)
