"""What methods make and protocols say is what it was."""

import json

import pytest

from golden import FILE, differences, machine, measured


def test_a_difference_is_told() -> None:
    kept = {
        "machine": "a",
        "sets": {"cf": {"fingerprint": "1", "numbers": {"image": [1.0, 2.0]}}},
        "scores": {"cf": {"mean": 50.0}},
    }
    other = {
        "machine": "b",
        "sets": {"cf": {"fingerprint": "2", "numbers": {"image": [1.0, 2.01]}}},
        "scores": {"cf": {"mean": 52.5}},
    }
    assert [line.split(":")[0] for line in differences(kept, other, bits=True)] == [
        "/sets/cf/fingerprint",
        "/sets/cf/numbers/image/1",
        "/scores/cf/mean",
    ]
    assert not list(differences(kept, other, bits=False))
    other["sets"] = {"cf": {"fingerprint": "1", "numbers": {"image": [1.0, 3.0]}}, "dm": {}}
    assert [line.split(":")[0] for line in differences(kept, other, bits=False)] == [
        "/sets/cf/numbers/image/1",
        "/sets/dm",
    ]


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore::limbeck.errors.LimbeckWarning")  # three steps are no training
def test_nothing_differs() -> None:
    """Renew `golden.json` where a change is meant, and say in the commit why: `PYTHONPATH=tests python tests/golden.py --renew`."""
    kept = json.loads(FILE.read_text())
    assert list(differences(kept, measured(), bits=kept["machine"] == machine())) == []
