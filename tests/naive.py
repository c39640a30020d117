"""What methods compute, once more and naively: the formulas as they are published, in loops and double precision, without Limbeck."""

from collections.abc import Sequence
from itertools import permutations
from math import cos, pi

import torch
from torch import Tensor

Law = list[tuple[Tensor, Tensor]]  # real and imaginary part at each frequency


def mean(rows: Sequence[Tensor] | Tensor) -> Tensor:
    """`1/n sum_i x_i`."""
    total = rows[0] * 0
    for row in rows:
        total = total + row
    return total / len(rows)


def square(v: Tensor) -> Tensor:
    """`|v|^2`."""
    return (v * v).sum()


def unit(rows: Tensor) -> Tensor:
    """`x_i / |x_i|`."""
    return torch.stack([row / square(row).sqrt() for row in rows])


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """`<x, y> / (|x| |y|)`."""
    return (x * y).sum() / (square(x).sqrt() * square(y).sqrt())


def half_cosine(t: int, steps: int) -> float:
    """`(1 + cos(pi t / T)) / 2`: a rate that starts at 1 and ends at 0."""
    return (1 + cos(pi * t / steps)) / 2


def padded(v: Tensor, width: int) -> Tensor:
    """The vector with zeros behind it."""
    return torch.cat([v, v.new_zeros(width - len(v))])


# Laws ---------------------------------------------------------------------------------------------------------------------


def law(vectors: Tensor, waves: Tensor) -> Law:
    """`Phi(t_k) = 1/n sum_i exp(i <t_k, x_i>)` for each column t_k."""
    found = []
    for k in range(waves.shape[1]):
        angles = [(vector * waves[:, k]).sum() for vector in vectors]
        found.append((mean([a.cos() for a in angles]), mean([a.sin() for a in angles])))
    return found


def law_distance(x: Law, y: Law) -> Tensor:
    """`1/K sum_k |x_k - y_k|^2`."""
    return mean([(a - c) ** 2 + (b - d) ** 2 for (a, b), (c, d) in zip(x, y, strict=True)])


def root_law_distance(x: Law, y: Law, amplitude: float = 0.5) -> Tensor:
    """`1/K sum_k sqrt(a (|x_k| - |y_k|)^2 + 2 (1 - a) (|x_k| |y_k| - Re x_k conj(y_k)))`, the root of v as that of v + 1e-12 less 1e-6."""
    found = []
    for (a, b), (c, d) in zip(x, y, strict=True):
        p, q = (a * a + b * b).sqrt(), (c * c + d * d).sqrt()
        inside = amplitude * (p - q) ** 2 + 2 * (1 - amplitude) * (p * q - a * c - b * d)
        found.append((inside + 1e-12).sqrt() - 1e-6)
    return mean(found)


def dependence(laws: Sequence[Law], joint: Law) -> Law:
    """`Psi(t_k) = Phi(t_k) - prod_m Phi_m(t_k)`."""
    found = []
    for k, (a, b) in enumerate(joint):
        product = torch.complex(*laws[0][k])
        for other in laws[1:]:
            product = product * torch.complex(*other[k])
        found.append((a - product.real, b - product.imag))
    return found


def law_cosine(x: Law, y: Law) -> Tensor:
    """`Re sum_k x_k conj(y_k) / (|x| |y|)`."""
    inner = sum(a * c + b * d for (a, b), (c, d) in zip(x, y, strict=True))
    sizes = [sum(a * a + b * b for a, b in z) ** 0.5 for z in (x, y)]
    return torch.as_tensor(inner / (sizes[0] * sizes[1]))


def kernel(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """`k(x_i, y_j) = exp(-s^2 |x_i - y_j|^2 / 2)`: what `exp(i <t, x_i - y_j>)` is on average for `t ~ N(0, s^2 I)`."""
    return torch.stack([torch.stack([(-(scale**2) * square(a - b) / 2).exp() for b in y]) for a in x])


def dependence_product(kernels: Sequence[Tensor]) -> Tensor:
    """`<Psi_X, Psi_Y> = sum_ij p_i q_j (prod k)_ij - ...`: joint less product of marginals, on both sides, term by term."""
    n, m = kernels[0].shape
    joint = sum(product([k[i, j] for k in kernels]) for i in range(n) for j in range(m)) / (n * m)
    left = sum(product([mean(k[i]) for k in kernels]) for i in range(n)) / n
    right = sum(product([mean(k[:, j]) for k in kernels]) for j in range(m)) / m
    return torch.as_tensor(joint - left - right + product([mean([mean(row) for row in k]) for k in kernels]))


def product(values: Sequence[Tensor]) -> Tensor:
    """`prod_m x_m`."""
    total = values[0]
    for value in values[1:]:
        total = total * value
    return total


def kernel_distance(own: Tensor, cross: Tensor, real: Tensor) -> Tensor:
    """`mean k(s, s') - 2 mean k(s, x) + mean k(x, x')`."""
    return mean(own.flatten()) - 2 * mean(cross.flatten()) + mean(real.flatten())


def median_distance(vectors: Tensor) -> float:
    """The lower median of the distances of every two vectors."""
    n = len(vectors)
    found = sorted(float(square(vectors[i] - vectors[j]).sqrt()) for i in range(n) for j in range(i))
    return found[(len(found) - 1) // 2]


# Moments, and what is linear ----------------------------------------------------------------------------------------------


def means_distance(x: Tensor, y: Tensor) -> Tensor:
    """`|mean x - mean y|^2`."""
    return square(mean(x) - mean(y))


def cross_matching(gaps: Sequence[Tensor], icm: float, cgm: float) -> Tensor:
    """AVDD: `sum_m |d_m|^2 + sum_(m < n) icm |d_m + d_n|^2 + cgm |d_m - d_n|^2`, the narrower padded with zeros."""
    width = max(map(len, gaps))
    d = [padded(gap, width) for gap in gaps]
    total = torch.zeros(()).double()
    for m in range(len(d)):
        total = total + square(d[m])
        for n in range(m + 1, len(d)):
            total = total + icm * square(d[m] + d[n]) + cgm * square(d[m] - d[n])
    return total


def covariance(x: Tensor, y: Tensor) -> Tensor:
    """`1/(n - 1) sum_i (x_i - mean x) (y_i - mean y)^T`."""
    a, b = mean(x), mean(y)
    return torch.stack([torch.outer(p - a, q - b) for p, q in zip(x, y, strict=True)]).sum(0) / (len(x) - 1)


def whitening(x: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Mean, and `U (L + ridge mean(L))^(-1/2) / sqrt(c)`, `c = sum_d L_d / (L_d + ridge mean(L))`, of the covariance U L U^T."""
    centre = mean(x)
    spread = torch.stack([torch.outer(row - centre, row - centre) for row in x]).sum(0) / len(x)
    variance, basis = torch.linalg.eigh(spread)
    variance = variance.clamp(min=0)
    regular = (variance + ridge * variance.sum() / len(variance)).clamp(min=1e-12)
    size = float((variance / regular).sum())
    return centre, torch.stack([basis[:, d] / (float(regular[d]) * size) ** 0.5 for d in range(len(variance))], dim=1)


def ridge_tower(own: Tensor, points: Tensor, ridge: float) -> Tensor:
    """`(K + ridge tr(K)/m I)^-1 k(x)`, `K = Z Z^T`, `k(x) = Z (x - mean)`, for each point x."""
    centre, m = mean(own), len(own)
    z = torch.stack([row - centre for row in own])
    gram = torch.stack([torch.stack([(a * b).sum() for b in z]) for a in z])
    trace = sum(gram[i, i] for i in range(m))
    inverse = torch.linalg.inv(gram + ridge * trace / m * torch.eye(m).to(gram))
    return torch.stack([inverse @ torch.stack([(a * (x - centre)).sum() for a in z]) for x in points])


def soft_entropy(scores: Tensor, shares: Tensor) -> Tensor:
    """`-1/b sum_i sum_c p_ic log(e^s_ic / sum_d e^s_id)`."""
    return -mean([sum(p * (s - row.logsumexp(0)) for p, s in zip(q, row)) for q, row in zip(shares, scores)])  # type: ignore[misc]  # noqa: B905


def infonce(image: Tensor, text: Tensor, temperature: float) -> Tensor:
    """`-1/2b sum_i log(e^s_ii / sum_j e^s_ij) + log(e^s_ii / sum_j e^s_ji)`, `s_ij = <x_i, y_j> / temperature`."""
    b = len(image)
    s = [[(x * y).sum() / temperature for y in text] for x in image]
    rows = [s[i][i] - torch.stack(s[i]).logsumexp(0) for i in range(b)]
    columns = [s[i][i] - torch.stack([s[j][i] for j in range(b)]).logsumexp(0) for i in range(b)]
    return -(mean(rows) + mean(columns)) / 2


def caption_map(features: Tensor, captions: Tensor, points: Tensor, ridge: float = 1e-2) -> Tensor:
    """`(v - mean v) W + mean c` of `W = argmin |V W - C|^2 + ridge mean variance n |W|^2`, by the normal equations."""
    v, c = mean(features), mean(captions)
    x, y = features - v, captions - c
    size = (x * x).sum() / x.shape[1]
    weight = torch.linalg.inv(x.T @ x + (ridge * size + 1e-9) * torch.eye(x.shape[1]).to(x)) @ x.T @ y
    return (points - v) @ weight + c


def gradient_distance(x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
    """`sum_layers sum_outputs 1 - cos(x_lr, y_lr)`; tensors of one dimension (biases, norms) count nothing."""
    total = torch.zeros(()).double()
    for a, b in zip(x, y, strict=True):
        if a.ndim > 1:
            for p, q in zip(a, b, strict=True):
                size = (square(p) * square(q) + 1e-24).sqrt()  # a row without a gradient counts 1
                total = total + 1 - (p * q).sum() / size
    return total


# Choosing -----------------------------------------------------------------------------------------------------------------


def herding(vectors: Tensor, sample: Sequence[int], k: int) -> list[int]:
    """`x_t = argmax <w_t, x>`, `w_(t+1) = w_t + mean - x_t`; a sample once."""
    centre, chosen = mean(vectors), list[int]()
    weight = centre
    for _ in range(k):
        free = [i for i in range(len(vectors)) if sample[i] not in {sample[j] for j in chosen}]
        chosen.append(max(free, key=lambda i: float((weight * vectors[i]).sum())))
        weight = weight + centre - vectors[chosen[-1]]
    return chosen


def kcenter(vectors: Tensor, sample: Sequence[int], k: int, first: int) -> list[int]:
    """Each time the candidate whose nearest chosen one is farthest; a sample once."""
    chosen = [first]
    while len(chosen) < k:
        free = [i for i in range(len(vectors)) if sample[i] not in {sample[j] for j in chosen}]
        chosen.append(max(free, key=lambda i: min(float(square(vectors[i] - vectors[j])) for j in chosen)))
    return chosen


def one_each(order: Sequence[int], sample: Sequence[int]) -> dict[int, int]:
    """Sample to the first of its candidates in an order, by ascending sample."""
    first: dict[int, int] = {}
    for candidate in order:
        first.setdefault(sample[candidate], candidate)
    return dict(sorted(first.items()))


def best_match(first: Sequence[int], second: Sequence[int], k: int) -> list[int]:
    """Which cluster of the second view goes with each of the first: the most candidates in common, of all k! ways."""
    return list(
        max(permutations(range(k)), key=lambda way: sum(way[a] == b for a, b in zip(first, second, strict=True)))
    )


# Optimizers ---------------------------------------------------------------------------------------------------------------


class SGD:
    """`v = mu v + g`, `x = x - rate v`, with the decay `g + decay x`; v begins as the first gradient."""

    def __init__(self, momentum: float, decay: float = 0.0) -> None:
        self.momentum, self.decay, self.velocity = momentum, decay, dict[str, Tensor]()

    def __call__(self, name: str, x: Tensor, gradient: Tensor, rate: float) -> Tensor:
        """The next value."""
        g = gradient + self.decay * x
        self.velocity[name] = self.momentum * self.velocity[name] + g if name in self.velocity else g
        return x - rate * self.velocity[name]


class Adam:
    """`m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, `x = x - rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + 1e-8)`."""

    def __init__(self) -> None:
        self.moments: dict[str, tuple[int, Tensor, Tensor]] = {}

    def __call__(self, name: str, x: Tensor, gradient: Tensor, rate: float) -> Tensor:
        """The next value."""
        t, m, v = self.moments.get(name, (0, torch.zeros_like(x), torch.zeros_like(x)))
        t, m, v = t + 1, 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        self.moments[name] = t, m, v
        return x - rate * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
