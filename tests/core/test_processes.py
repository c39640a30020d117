"""What each of several processes does, with the collectives of torch played by the test; the slow tier starts real ones."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import limbeck as lb
from limbeck.errors import MissingDependency
from limbeck.runtime import processes

Several = Callable[[int, int], list[str]]


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> Several:
    """Makes this process number `rank` of `count`; returns the waits, as they come."""

    def start(rank: int, count: int) -> list[str]:
        waits: list[str] = []
        state = SimpleNamespace(
            num_processes=count, process_index=rank, device="cpu", wait_for_everyone=lambda: waits.append("wait")
        )
        monkeypatch.setattr(processes, "_state", lambda: state)
        return waits

    return start


def test_the_first_one_is_first_and_no_other(several: Several) -> None:
    for rank in range(3):
        waits = several(rank, 3)
        assert (processes.rank(), processes.count(), processes.is_first()) == (rank, 3, rank == 0)
        processes.wait()
        assert waits == ["wait"]


def test_shares_are_every_nth_and_together_all(several: Several) -> None:
    shares = []
    for rank in range(3):
        several(rank, 3)
        shares.append(processes.share(range(8)))
    assert shares == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_alone_nothing_is_asked_of_others() -> None:
    assert (processes.rank(), processes.count(), processes.is_first()) == (0, 1, True)
    assert processes.share((3, 4)) == [3, 4] and processes.agree(True) and not processes.agree(False)
    rows, parameter = torch.ones(2), torch.ones(1, requires_grad=True)
    parameter.grad = torch.tensor([5.0])
    assert processes.gathered(rows) is rows
    processes.sum_gradients([parameter])
    processes.wait()
    assert parameter.grad.item() == 5.0


@pytest.mark.parametrize(("here", "there"), [(False, False), (False, True), (True, False), (True, True)])
def test_what_is_so_in_one_is_so_for_all(
    several: Several, here: bool, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    several(1, 2)

    def all_reduce(value: Tensor, op: Any) -> None:
        assert op == torch.distributed.ReduceOp.MAX
        value.copy_(torch.maximum(value, torch.tensor(float(there))))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    assert processes.agree(here) is (here or there)


def test_gradients_are_the_mean_over_processes(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    several(1, 4)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda grad: grad.add_(torch.tensor([10.0, 0.0])))
    known, unknown = (torch.zeros(2, requires_grad=True) for _ in range(2))
    known.grad = torch.tensor([2.0, 8.0])
    processes.sum_gradients([unknown, known])
    assert known.grad.tolist() == [3.0, 2.0] and unknown.grad is None


def test_rows_of_all_processes_come_one_after_the_other(several: Several, monkeypatch: pytest.MonkeyPatch) -> None:
    functional = pytest.importorskip("torch.distributed.nn.functional")
    several(1, 2)
    monkeypatch.setattr(functional, "all_gather", lambda rows: (torch.zeros(2, 1), rows))
    rows = torch.tensor([[1.0, 5.0], [2.0, 6.0]])[:, :1]
    assert not rows.is_contiguous()
    assert processes.gathered(rows).tolist() == [[0.0], [0.0], [1.0], [2.0]]


@pytest.mark.parametrize(("number", "writes"), [(0, True), (1, False)])
def test_one_process_writes(
    several: Several, number: int, writes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = several(number, 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value, op: None)
    problem = lb.Problem(lb.check.toy_source(8), lb.space(image="convnet"), lb.Budget(pairs=4))
    small = lb.distill(problem, lb.methods.CF(steps=1, batch=4), run=tmp_path / "run")
    left = {p.name for p in (tmp_path / "run").iterdir()} if (tmp_path / "run").exists() else set()
    assert left >= {"set", "log.jsonl", "checkpoint", "recipe.yaml"} if writes else left == set()
    assert len(small) == 4 and waits == ["wait"] * 2, "before the first step and after the last one"


def test_several_processes_need_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    start = processes._state.__wrapped__
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert start() is None
    monkeypatch.delenv("WORLD_SIZE")
    assert start() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MissingDependency, match="accelerate"):
        start()
