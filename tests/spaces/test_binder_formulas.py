"""Binding against a naive re-implementation: two views, anchors, AdamW with a cosine and clipped gradients; who moves, who does not."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import limbeck as lb
from limbeck.data.vectors import VectorSource
from limbeck.spaces import binder
from limbeck.spaces.binder import Binding, _stream, bind
from limbeck.spaces.heads import read_heads, read_manifest

DIMS = {"a": 5, "b": 6, "c": 4}
BASE = Binding(
    dim=3, hidden=(4,), temperature=0.3, steps=6, batch=8, rate=0.02, decay=0.1, noise=0.2, dropout=0.2, seed=5
)


def source(n: int = 20, lacking: bool = True) -> VectorSource:
    draw = torch.Generator().manual_seed(0)
    point = torch.randn(n, 4, generator=draw)
    values = {
        m: 2 + 3 * (point @ torch.randn(4, d, generator=draw) + torch.randn(n, d, generator=draw))
        for m, d in DIMS.items()
    }
    here = {"c": torch.arange(n) % 3 != 0, "b": torch.arange(n) % 5 != 1} if lacking else {}
    return VectorSource("points", values, present=here)


def space(modalities: str = "abc") -> lb.spaces.Space:
    return lb.space(**{m: f"vectors:{DIMS[m]}" for m in modalities})


def trained(
    folder: Path, data: VectorSource, binding: Binding, modalities: str = "abc"
) -> dict[str, dict[str, Tensor]]:
    bind(data, space(modalities), folder, binding)
    return {m: dict(head.state_dict()) for m, head in read_heads(folder, read_manifest(folder)).items()}


def nce(a: Tensor, z: Tensor, temperature: Any) -> Tensor:
    """Half the sum of both cross-entropies, each row's own partner being the right one."""
    logits, total = a @ z.T / temperature, torch.zeros(())
    for way in (logits, logits.T):
        for i in range(len(way)):
            total = total + (way[i].exp().sum().log() - way[i, i]) / (2 * len(way))
    return total


@dataclass
class ByHand:
    """The heads of a binding, trained from the formulas in double precision; what is drawn comes from the binding's streams."""

    data: VectorSource
    how: Binding
    modalities: str = "abc"
    heads: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        batch = self.data.batch(range(len(self.data)))
        self.here = {m: batch.mask(m) for m in self.modalities}
        unit = {m: batch[m] / batch[m].norm(dim=1, keepdim=True).clamp(min=1e-12) for m in self.modalities}
        own = self.how.fixed if self.how.state == "own" else None
        for m in self.modalities:
            held = unit[m][self.here[m]]
            deviation = held.double().std(0, correction=0)
            self.heads[m] = {
                "mean": held.double().mean(0),
                "deviation": deviation.clamp(min=0.01 * float(deviation.mean())),
            }
            draw = _stream(self.how.seed, f"head {m}")
            sizes = [] if m == own else [DIMS[m], *self.how.hidden, self.how.dim]
            for i, (inputs, outputs) in enumerate(pairwise(sizes)):
                for name, shape in (("weight", (outputs, inputs)), ("bias", (outputs,))):
                    bound = 1 / math.sqrt(inputs)
                    self.heads[m][f"layers.{i}.{name}"] = (
                        torch.empty(shape).uniform_(-bound, bound, generator=draw).double()
                    )
        self.unit = unit

    def view(self, w: Mapping[str, Tensor], x: Tensor) -> Tensor:
        for i in range(len(self.how.hidden) + 1):
            x = (x.relu() if i else x) @ w[f"layers.{i}.weight"].T + w[f"layers.{i}.bias"]
        return x / x.norm(dim=1, keepdim=True)

    def views(
        self, heads: Mapping[str, Mapping[str, Tensor]], index: Tensor, draw: torch.Generator
    ) -> list[dict[str, Tensor]]:
        both: list[dict[str, Tensor]] = [{}, {}]
        for m, w in heads.items():
            torch.rand(len(index), generator=draw)  # which of its features each sample draws: it has one
            x = self.unit[m][index].double()
            if "layers.0.weight" not in w:
                both[0][m] = both[1][m] = x
                continue
            x = ((x - w["mean"]) / w["deviation"]).repeat(2, 1)
            x = x + self.how.noise * torch.randn(x.shape, generator=draw).double()
            x = x * (torch.rand(x.shape, generator=draw) >= self.how.dropout)
            both[0][m], both[1][m] = self.view(w, x[: len(index)]), self.view(w, x[len(index) :])
        return both

    def loss(
        self, first: dict[str, Tensor], second: dict[str, Tensor], here: dict[str, Tensor], temperature: Tensor
    ) -> Tensor:
        rule, terms = self.how.anchor.partition(":")[0], []
        names = list(first)
        if rule == "fixed":
            a = self.how.fixed or ""
            still = self.how.state != "trainable"
            pairs = [(first[a].detach() if still else first[a], second[m], here[a] & here[m]) for m in names if m != a]
        elif rule == "all_pairs":
            both = [(m, o) for i, m in enumerate(names) for o in names[i + 1 :]]
            both += [(m, m) for m in names] if self.how.with_itself else []
            pairs = [(first[m], second[o], here[m] & here[o]) for m, o in both]
        else:
            pairs = []
            for m in names:
                others = [o for o in names if not (self.how.leave_one_out and o == m)]
                weight = {o: here[o].double()[:, None] * self.how.weights.get(o, 1.0) for o in others}
                total = sum((weight[o] * first[o].nan_to_num() for o in others), torch.zeros(()))
                mean = total / sum(weight.values(), torch.zeros(())).clamp(min=1e-12)
                if self.how.normalize:
                    mean = mean / mean.norm(dim=1, keepdim=True).clamp(min=1e-12)
                rows = here[m] & (torch.stack([here[o] for o in others]).any(0))
                pairs.append((mean.detach() if self.how.detach else mean, second[m], rows))
        for anchor, z, rows in pairs:
            if int(rows.sum()) > 1:
                terms.append(nce(anchor[rows], z[rows], temperature))
        return torch.stack(terms).mean()

    def descend(self, what: str, moving: list[str], among: list[str], loss: Any) -> Tensor:
        how, order, draw = self.how, _stream(self.how.seed, f"{what} order"), _stream(self.how.seed, f"{what} views")
        state = {(m, k): self.heads[m][k] for m in moving for k in self.heads[m] if k.startswith("layers")}
        log_t = torch.tensor(how.temperature).log().double()
        if how.learn_temperature:
            state["", "temperature"] = log_t
        first, second = ({k: torch.zeros_like(w) for k, w in state.items()} for _ in range(2))
        alive = torch.stack([self.here[m] for m in self.modalities]).any(0).nonzero().squeeze(1)
        queue: list[Tensor] = []
        for t in range(how.steps):
            if not queue:
                parts = alive[torch.randperm(len(alive), generator=order)].split(how.batch)
                queue = [p for p in parts if len(p) == how.batch]
            index = queue.pop(0)
            leaves = {k: w.clone().requires_grad_() for k, w in state.items()}
            heads = {m: {k: leaves.get((m, k), w) for k, w in self.heads[m].items()} for m in among}
            one, two = self.views(heads, index, draw)
            temperature = leaves.get(("", "temperature"), log_t).exp()
            value = loss(one, two, {m: self.here[m][index] for m in among}, temperature)
            found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, materialize_grads=True)
            norm = torch.stack([g.square().sum() for g in found]).sum().sqrt()
            lr = how.rate * (1 + math.cos(math.pi * t / how.steps)) / 2
            for (k, w), g in zip(list(state.items()), found, strict=True):
                g = g * min(1.0, 1.0 / (float(norm) + 1e-6))
                first[k], second[k] = 0.9 * first[k] + 0.1 * g, 0.999 * second[k] + 0.001 * g * g
                step = first[k] / (1 - 0.9 ** (t + 1)) / ((second[k] / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
                state[k] = w * (1 - lr * (0.0 if k[1] == "temperature" else how.decay)) - lr * step
                if k[1] == "temperature":
                    state[k] = state[k].clamp(min=math.log(0.01))
        for (m, k), w in state.items():
            if m:
                self.heads[m][k] = w
        return state.get(("", "temperature"), log_t).exp()

    def train(self) -> Tensor:
        moving, anchor = list(self.modalities), self.how.fixed
        if anchor and self.how.state != "trainable":
            moving.remove(anchor)
            if self.how.state == "pretrained":
                self.descend("anchor", [anchor], [anchor], self.alone)
        return self.descend("binding", moving, list(self.modalities), self.loss)

    def alone(
        self, first: dict[str, Tensor], second: dict[str, Tensor], here: dict[str, Tensor], temperature: Tensor
    ) -> Tensor:
        ((m, rows),) = here.items()
        return nce(first[m][rows], second[m][rows], temperature)


CASES: dict[str, dict[str, Any]] = {
    "centroid": {},
    "weighed": {"weights": {"a": 3.0, "c": 0.5}, "normalize": True, "detach": True},
    "leave_one_out": {"leave_one_out": True, "learn_temperature": True},
    "all_pairs": {"anchor": "all_pairs"},
    "with_itself": {"anchor": "all_pairs", "with_itself": True, "hidden": ()},
    "pretrained": {"anchor": "fixed:b"},
    "random": {"anchor": "fixed:a", "state": "random"},
    "trainable": {"anchor": "fixed:a", "state": "trainable"},
    "own": {"anchor": "fixed:b", "state": "own", "dim": 6},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES.keys())
def test_heads_are_those_that_the_formulas_give(options: dict[str, Any], tmp_path: Path) -> None:
    how, data = replace(BASE, **options), source()
    found, hand = trained(tmp_path / "bound", data, how), ByHand(data, how)
    start = {m: {k: w.clone() for k, w in head.items()} for m, head in hand.heads.items()}
    temperature = hand.train()
    for m, head in hand.heads.items():
        for name, value in head.items():
            if name in found[m] and "layers.0.weight" in head:
                torch.testing.assert_close(found[m][name].double(), value, rtol=2e-3, atol=2e-4)
        moved = any(not torch.equal(head[k], start[m][k]) for k in head)
        assert moved == (not (how.fixed == m and how.state in ("random", "own"))), m
    history = read_manifest(tmp_path / "bound")["history"]
    assert len(history) == how.steps and history[-1]["step"] == how.steps - 1
    if how.learn_temperature:
        assert history[-1]["temperature"] == pytest.approx(float(temperature), rel=1e-2) != how.temperature


def test_both_views_and_every_step_are_shaken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how, data, seen, inner = replace(BASE, dropout=0.0, hidden=()), source(lacking=False), [], binder._views

    def views(rows: Any, heads: Any, samples: Tensor, *rest: Any) -> Any:
        first, second, here = inner(rows, heads, samples, *rest)
        seen.append((samples, {m: (first[m].detach(), second[m].detach()) for m in first}))
        return first, second, here

    monkeypatch.setattr(binder, "_views", views)
    bind(data, space(), tmp_path / "bound", replace(how, rate=1e-12, decay=0.0, steps=8))
    assert len({tuple(sorted(samples.tolist())) for samples, _ in seen}) > 4, "each step takes other samples"
    vectors = [(m, way, samples, z) for samples, both in seen for m, two in both.items() for way, z in enumerate(two)]
    for i, (m, way, samples, z) in enumerate(vectors):
        for n, other, also, y in vectors[i + 1 :]:
            if m == n and (way, samples.tolist()) != (other, also.tolist()):
                same = (samples[:, None] == also).nonzero()
                assert all(not torch.allclose(z[a], y[b], atol=1e-4) for a, b in same.tolist())


def test_an_anchor_that_is_frozen_is_the_one_that_was_pretrained_alone(tmp_path: Path) -> None:
    """Weight decay would move it, too, if it were still among what is trained."""
    data, how = source(), replace(BASE, anchor="fixed:b", decay=0.5)
    head = trained(tmp_path / "bound", data, how)["b"]
    hand = ByHand(data, how)
    hand.descend("anchor", ["b"], ["b"], hand.alone)
    for name, value in hand.heads["b"].items():
        torch.testing.assert_close(head[name].double(), value, rtol=2e-3, atol=2e-4)


def test_heads_standardise_by_the_data_that_they_are_trained_on(tmp_path: Path) -> None:
    data = source()
    found = trained(tmp_path / "bound", data, replace(BASE, steps=0))
    held = data.batch(range(20))
    for m in DIMS:
        x = held[m][held.mask(m)]
        x = x / x.norm(dim=1, keepdim=True)
        torch.testing.assert_close(found[m]["mean"], x.mean(0))
        torch.testing.assert_close(found[m]["deviation"], x.std(0, correction=0))
