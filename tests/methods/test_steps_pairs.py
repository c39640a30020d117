"""Steps of kip and covmatch, the towers that covmatch trains, and what coresets choose, against naive computations."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import limbeck as lb
import naive
from followed import follow
from limbeck import registry
from limbeck.check import toy_source
from limbeck.core import Problem, Synthetic
from limbeck.methods.matching._online_encoders import OnlineTowers
from limbeck.methods.matching._row_adam import RowAdam
from limbeck.students.two_towers import TwoTowers, stages
from tiers import slow_but

BOTH = ("image", "text")


def problem(pairs: int = 5, n: int = 12, modalities: tuple[str, ...] = (*BOTH, "label"), seed: int = 0) -> Problem:
    names = {"image": "convnet", "text": "bag_of_words"}
    space = lb.space(**{m: names[m] for m in modalities if m in names})
    return Problem(toy_source(n, modalities=modalities), space, lb.Budget(pairs=pairs), seed=seed)


def pairs_of(of: Problem) -> list[tuple[int, int]]:
    """Every sample with each of its captions."""
    return [(i, row) for row, i in enumerate(of.features["text"].owner.tolist())]


def real(of: Problem, pairs: list[tuple[int, int]]) -> dict[str, Tensor]:
    """Unit vectors of some pairs."""
    vectors = {m: of.features[m].vectors.double() for m in BOTH}
    return {"image": vectors["image"][[i for i, _ in pairs]], "text": vectors["text"][[row for _, row in pairs]]}


def embedded(of: Problem, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"image": of.space["image"](own["image"]).double(), "text": naive.unit(own["text"].double())}


@pytest.mark.parametrize("batch", [4, 99])
def test_kip(batch: int) -> None:
    """InfoNCE of real pairs through two ridge regressions on the set; another batch of pairs of different samples at every step."""
    of = problem()
    method = lb.methods.KIP(steps=7, batch=batch, ridge=0.7, temperature=0.2, lr=0.02, lr_text=0.005)
    pairs, drawn = pairs_of(of), []

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        draw = of.rng("real", t)
        order = torch.randperm(len(pairs), generator=draw).tolist()
        first = list(naive.one_each(order, [i for i, _ in pairs]).values())
        chosen = [pairs[first[k]] for k in torch.randperm(len(first), generator=draw)[:batch].tolist()]
        drawn.append(tuple(chosen))
        z, r = embedded(of, own), real(of, chosen)
        towers = [naive.unit(naive.ridge_tower(z[m], r[m], 0.7)) for m in BOTH]
        return {"loss": naive.infonce(towers[0], towers[1], 0.2)}

    rates = {"image": 0.02, "text": 0.005}
    logs = follow(of, method, terms, naive.Adam(), lambda t, m: rates[m] * naive.half_cosine(t, 7), steps=4)
    assert len(set(drawn)) == 4, "the same pairs are never drawn twice in a row"
    assert len({len({i for i, _ in some}) for some in drawn}) == 1 and len(drawn[0]) == min(batch, 12)
    assert len({log["loss"] for log in logs}) == 4


@pytest.mark.parametrize("match", ["angle", "size", "absolute"])
def test_covmatch(match: Any) -> None:
    """Covariances of whitened vectors over every real pair, and means; Adam decays, SGD does not."""
    of = problem()
    adam = match == "angle"
    method = lb.methods.CovMatch(
        steps=7, match=match, rho=1.0 if adam else 1.7, ridge=2.0, means=0.3, spread=0.6, lr=0.02, lr_text=0.01,
        update="adam" if adam else "sgd", momentum=0.5,
    )  # fmt: skip
    maps = {m: naive.whitening(of.features[m].vectors.double(), 2.0) for m in BOTH}

    def white(z: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {m: (v - maps[m][0]) @ maps[m][1] for m, v in z.items()}

    target = white(real(of, pairs_of(of)))

    def distance(own: Tensor, whole: Tensor) -> Tensor:
        if adam:
            return 1 - naive.cosine(own.flatten(), whole.flatten())
        value = naive.square((1.7 * whole - own).flatten())
        return value / naive.square(whole.flatten()) if match == "size" else value

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        z = white(embedded(of, own))
        names = {"tie": BOTH, "image spread": ("image", "image"), "text spread": ("text", "text")}
        found = {
            name: distance(naive.covariance(z[a], z[b]), naive.covariance(target[a], target[b]))
            for name, (a, b) in names.items()
        }
        found |= {f"{m} mean": naive.means_distance(z[m], target[m]) for m in BOTH}
        spread = found["image spread"] + found["text spread"]
        loss = found["tie"] + 0.6 * spread + 0.3 * (found["image mean"] + found["text mean"])
        return {"loss": loss, **found}

    rates = {"image": 0.02, "text": 0.01}
    update = naive.Adam() if adam else naive.SGD(0.5)
    follow(of, method, terms, update, lambda t, m: rates[m] * (naive.half_cosine(t, 7) if adam else 1))


def online_batch(of: Problem, cycle: int, step: int, n: int) -> tuple[list[int], list[int]]:
    """Samples without repetition, and a caption of each, of the streams of the round."""
    order = torch.randperm(len(of.source), generator=of.rng(f"online samples {cycle}", step)).tolist()[:n]
    drawn = torch.rand(len(order), generator=of.rng(f"online captions {cycle}", step)).tolist()
    owner = of.features["text"].owner.tolist()
    rows = []
    for i, share in zip(order, drawn, strict=True):
        mine = [row for row, other in enumerate(owner) if other == i]
        rows.append(mine[int(share * len(mine))])
    return order, rows


class Trained:
    """Two towers that are trained on real pairs by hand, round by round."""

    def __init__(self, of: Problem, towers: TwoTowers, rate: float, rate_head: float, batch: int) -> None:
        self.of, self.towers, self.rates, self.batch = of, towers, (rate, rate_head), batch

    def start(self, cycle: int) -> None:
        """Pretrained encoders and new heads."""
        with torch.enable_grad():
            self.network = self.towers.network(self.of, self.of.rng("online heads", cycle))
        self.cycle, self.step = cycle, 0

    def pairs(self) -> dict[str, Tensor]:
        """What the towers read at this step."""
        samples, rows = online_batch(self.of, self.cycle, self.step, self.batch)
        image, text = self.towers.real(self.of, torch.tensor(samples), torch.tensor(rows), None)
        return {"image": image, "text": text}

    def call(self, m: str, values: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors before the head, and unit vectors behind it."""
        encoder, head = stages(self.network, m)
        z = encoder(values)
        return z.double(), naive.unit(head(z).double())

    def advance(self) -> None:
        """A step of plain SGD on symmetric InfoNCE; heads have a rate of their own."""
        real = self.pairs()
        joint = {m: self.call(m, real[m])[1] for m in BOTH}
        loss = naive.infonce(joint["image"], joint["text"], self.towers.temperature)
        heads = {id(p) for m in BOTH for p in stages(self.network, m)[1].parameters()}
        own = list(self.network.parameters())
        with torch.no_grad():
            for p, gradient in zip(own, torch.autograd.grad(loss, own), strict=True):
                p -= self.rates[id(p) in heads] * gradient
        self.step += 1


@pytest.mark.parametrize("image", ["convnet", "encoder"])
def test_the_towers_of_covmatch_are_trained(image: str) -> None:
    """Parameters after 0 to 3 steps of two rounds; encoders and heads at their own rates, on the batches of their step."""
    of, towers = problem(n=9), TwoTowers(image, dim=6, temperature=0.2)
    online = OnlineTowers(of, towers, rate=0.3, rate_head=0.02, batch=5)
    by_hand = Trained(of, towers, 0.3, 0.02, 5)
    batches = []
    for cycle in (0, 1):
        by_hand.start(cycle)
        for step in range(3):
            found = online.at(cycle, step)
            for name, p in by_hand.network.named_parameters():
                assert torch.allclose(found[name], p, atol=2e-4), f"{name} after step {step} of round {cycle}"
            batches.append(online_batch(of, cycle, step, 5))
            shown = online.real(cycle, step)
            assert all(torch.equal(a, b) for a, b in zip(shown, by_hand.pairs().values(), strict=True))
            by_hand.advance()
    assert len({str(batch) for batch in batches}) == 6


@pytest.mark.slow
def test_covmatch_with_trained_towers() -> None:
    """Targets of a batch of real pairs by the towers of the step, which start anew every `reset` steps."""
    of = problem(n=9)
    method = lb.methods.CovMatch(
        steps=7, towers="convnet", dim=6, temperature=0.2, reset=2, real_batch=5, online_rate=0.3, online_rate_head=0.02,
        match="absolute", rho=1.5, means=0.4, spread=0.2, lr=0.02, lr_text=0.01, ridge=2.0, update="sgd", momentum=0.5,
    )  # fmt: skip
    towers = TwoTowers("convnet", head="mlp", dim=6, temperature=0.2, ridge=2.0)
    by_hand = Trained(of, towers, 0.3, 0.02, 5)

    def terms(t: int, own: Mapping[str, Tensor], synthetic: Synthetic) -> dict[str, Tensor]:
        if t % 2 == 0:
            by_hand.start(t // 2)
        else:
            by_hand.advance()
        real = {m: by_hand.call(m, v) for m, v in by_hand.pairs().items()}
        text = towers.components(of, "text").whiten(naive.unit(own["text"].double()).float(), 2.0)  # signs are free
        seen = {"image": own["image"], "text": text}
        mine = {m: by_hand.call(m, v) for m, v in seen.items()}
        names = {"tie": BOTH, "image spread": ("image", "image"), "text spread": ("text", "text")}
        found = {
            name: naive.square(
                (1.5 * naive.covariance(real[a][0], real[b][0]) - naive.covariance(mine[a][0], mine[b][0])).flatten()
            )
            for name, (a, b) in names.items()
        }
        found |= {f"{m} mean": naive.means_distance(real[m][1], mine[m][1]) for m in BOTH}
        loss = found["tie"] + 0.2 * (found["image spread"] + found["text spread"])
        loss = loss + 0.4 * (found["image mean"] + found["text mean"])
        return {"loss": loss, "towers": naive.infonce(real["image"][1], real["text"][1], 0.2), **found}

    rates = {"image": 0.02, "text": 0.01}
    follow(of, method, terms, naive.SGD(0.5), lambda t, m: rates[m], steps=4, tolerance=5e-3)


# Coresets -----------------------------------------------------------------------------------------------------------------


def chosen(of: Problem, name: str, per_class: bool | None) -> list[tuple[int, int]]:
    """The pairs that a coreset starts, and ends, with."""
    made = registry.get("method", name)(per_class=per_class).start(of)
    rows = made.caption if made.caption is not None else torch.full_like(made.origin, -1)
    return list(zip(made.origin.tolist(), rows.tolist(), strict=True))


def by_hand(of: Problem, name: str, per_class: bool) -> list[tuple[int, int]]:
    """The same from the definitions, class by class with the share of each."""
    from sklearn.cluster import KMeans

    pairs = pairs_of(of) if "text" in of.modalities else [(i, -1) for i in range(len(of.source))]
    labels = of.source.labels
    classes = [[k for k, (i, _) in enumerate(pairs) if labels is not None and labels[i] == c] for c in range(4)]
    found: list[tuple[int, int]] = []
    for g, among in enumerate(classes if per_class else [list(range(len(pairs)))]):
        draw, k = of.rng("select", g), of.pairs(learned_text=False) // (4 if per_class else 1)
        some = [pairs[j] for j in among]
        sample = [i for i, _ in some]
        views = [of.features["image"].vectors.double()[sample]]
        if "text" in of.modalities:
            views.append(of.features["text"].vectors.double()[[row for _, row in some]])
        joint = torch.cat(views, dim=1)
        if name == "random":
            order = torch.randperm(len(some), generator=draw).tolist()
            first = list(naive.one_each(order, sample).values())
            picks = [first[j] for j in torch.randperm(len(first), generator=draw)[:k].tolist()]
        elif name == "herding":
            picks = naive.herding(joint, sample, k)
        elif name == "kcenter":
            picks = naive.kcenter(joint, sample, k, int(torch.randint(len(some), (), generator=draw)))
        else:
            seed, fits, used = int(torch.randint(2**31, (), generator=draw)), [], list[Tensor]()
            for v, ids in zip(views, (sample, [row for _, row in some]), strict=False):
                distinct = torch.stack([v[ids.index(i)] for i in sorted(set(ids))]).float()
                fits.append(
                    torch.from_numpy(KMeans(k, n_init=1, random_state=seed).fit(distinct.numpy()).cluster_centers_)
                )
                used.append(torch.stack([torch.stack([naive.square(x - c) for c in fits[-1].double()]) for x in v]))
            total = used[0]
            if len(used) > 1:
                way = naive.best_match(*(d.argmin(1).tolist() for d in used), k)
                total = total + used[1][:, way]
            picks, taken = [], set[int]()
            for cluster in range(k):
                free = [j for j in range(len(some)) if sample[j] not in taken]
                picks.append(min(free, key=lambda j: float(total[j, cluster])))
                taken.add(sample[picks[-1]])
        found += [some[j] for j in picks]
    return found


@pytest.mark.parametrize("name", ["random", "herding", "kcenter", "prototypes"])
@pytest.mark.parametrize("modalities", [("image", "label"), (*BOTH, "label")])
@pytest.mark.parametrize("per_class", slow_but([True, False, None], True))
def test_what_a_coreset_chooses(name: str, modalities: tuple[str, ...], per_class: bool | None) -> None:
    """All of it, or class by class; by default class by class without text alone."""
    pairs = 4 if name == "prototypes" else 8  # of two members of a cluster neither is the nearer
    for seed in (0, 1):
        of = problem(pairs, 32, modalities, seed)
        expected = by_hand(of, name, "text" not in modalities if per_class is None else per_class)
        found = chosen(of, name, per_class)
        assert found == expected
        assert len({i for i, _ in found}) == pairs


def test_rows_without_a_gradient_rest() -> None:
    """Adam row by row: a row's moments count its own steps with a gradient, but for the correction of their beginning."""
    draw = torch.Generator().manual_seed(0)
    x = torch.nn.Parameter(torch.randn(3, 2, generator=draw))
    optimizer, plain = RowAdam([x], lr=0.1), torch.nn.Parameter(x.detach().clone())
    moments = torch.zeros(3, 2), torch.zeros(3, 2)
    value = plain.detach().clone()
    for t in range(1, 5):
        gradient = torch.randn(3, 2, generator=draw)
        gradient[t % 3] = 0
        x.grad = gradient.clone()
        optimizer.step()
        for row in range(3):
            if not gradient[row].any():
                continue
            moments[0][row] = 0.9 * moments[0][row] + 0.1 * gradient[row]
            moments[1][row] = 0.999 * moments[1][row] + 0.001 * gradient[row] ** 2
            size = (moments[1][row] / (1 - 0.999**t)).sqrt() + 1e-8
            value[row] = value[row] - 0.1 * moments[0][row] / (1 - 0.9**t) / size
        assert torch.allclose(x.detach(), value, atol=1e-6)
