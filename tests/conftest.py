"""What every test runs under: one thread, no network, a cache of its own, and a global random generator left alone."""

import os
from collections.abc import Iterator

import pytest

pytest_plugins = ["pytester"]

os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"})


@pytest.fixture(scope="session", autouse=True)
def _surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache that lives as long as the session, and one thread, so that numbers repeat."""
    import torch

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIMBECK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("huggingface")))
        yield


@pytest.fixture(autouse=True)
def _global_generator_is_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    """Limbeck never draws from torch's global generator; a test that does so itself is marked `draws_globally`."""
    import torch

    torch.manual_seed(0)
    before = torch.get_rng_state()
    yield
    if "draws_globally" not in request.keywords and not torch.equal(torch.get_rng_state(), before):
        pytest.fail("something drew from torch's global generator; pass a torch.Generator", pytrace=False)
