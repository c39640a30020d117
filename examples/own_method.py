"""A distillation method of your own in one file: written, checked against the contract, and compared.

    python examples/own_method.py --pairs 100
    python examples/own_method.py --toy            # the same in seconds, with random encoders

The method keeps real images and learns a caption of each as a vector. A real caption shall be like the learned ones in the
proportions in which its image is like the kept images:

    p_bm = softmax_m(cos(image_b, image_m) / tau)       q_bm = softmax_m(cos(text_b, t_m) / tau)       L = -mean_b sum_m p_bm log q_bm

Its name is that of its file. In Python an instance of it is all that is needed. Where the file lies in a package of yours, an entry
point gives the name to the command line, `limbeck distill demo --method own_method --method.steps 50`:

    [project.entry-points."limbeck.methods"]
    own_method = "my_package.own_method:LikeCaptions"
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam, Optimizer

import limbeck as lb
from limbeck.core import chosen_pairs, select
from limbeck.objectives import selection

__all__ = ["LikeCaptions"]


@dataclass(frozen=True)
class LikeCaptions(lb.Method):
    """Real images whose captions are learned: texts shall be as like each other as their images are.

    Args:
        steps: number of steps.
        batch: real pairs a step.
        temperature: of both softmaxes.
        lr: learning rate (Adam).
    """

    needs = ("image", "text")

    steps: int = 100
    batch: int = 512
    temperature: float = 0.07
    lr: float = 0.02

    @property
    def learns_text(self) -> bool:
        """A learned caption is a vector, which a budget in bytes has to know."""
        return True

    @property
    def keeps_images(self) -> bool:
        """Images are real files, which a budget in bytes has to know as well."""
        return True

    def start(self, problem: lb.Problem) -> lb.Synthetic:
        """Random pairs, whose texts are learned."""
        chosen = select(problem, selection.random, problem.pairs(learned_text=True))
        return chosen_pairs(problem, chosen, learn=["text"])

    def optimizer(self, synthetic: lb.Synthetic) -> Optimizer:
        """Adam on the vectors."""
        return Adam(synthetic.parameters(), lr=self.lr)

    def step(self, problem: lb.Problem, synthetic: lb.Synthetic, t: int) -> dict[str, float | Tensor]:
        """Draws real pairs, leaves a gradient, and returns what to log. The loop does the rest."""
        images, texts = problem.features["image"], problem.features["text"]  # unit vectors of all real data
        pairs = problem.candidates  # each image with one of its captions
        drawn = torch.randint(len(pairs), (self.batch,), generator=problem.rng("real", t))
        kept = images.first(len(problem.source))[synthetic.origin.cpu()]  # the row of each kept image
        alike = images.vectors[pairs.rows["image"][drawn]] @ images.vectors[kept].T
        share = (alike / self.temperature).softmax(dim=1).to(problem.device)
        own = F.normalize(synthetic.value("text"), dim=1)
        said = texts.vectors[pairs.rows["text"][drawn]].to(problem.device) @ own.T
        loss = -(share * (said / self.temperature).log_softmax(dim=1)).sum(dim=1).mean()
        loss.backward()
        return {"loss": loss.detach()}


def main() -> None:
    """Checks the method, and compares it with two choices of real pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("runs/own_method"), help="where everything is written")
    parser.add_argument("--toy", action="store_true", help="run in seconds, with random encoders")
    options = parser.parse_args()

    tiny = lb.space(image="convnet", text="bag_of_words")
    lb.check.check_method(LikeCaptions(steps=3), tiny)  # raises and names the clause that is broken
    print("LikeCaptions keeps the contract of limbeck.Method\n")

    if options.toy:
        train, space, pairs, seeds = lb.check.toy_source(48), tiny, 8, 2
        students = {"steps": 20, "noise": (1.0,)}
    else:
        train, space = lb.source("demo"), lb.space(image="efficientnet_lite0", text="minilm")
        pairs, seeds, students = options.pairs, 3, {"steps": 200, "longest": 200}
    method = LikeCaptions(steps=5, lr=0.005) if options.toy else LikeCaptions()
    small = lb.Storage(vectors="int8")  # learned vectors at a byte a component
    found = lb.compare(
        train, ["random", "herding", method], [pairs], seeds, space=space, run=options.out, storage=small, **students
    )
    print(found)


if __name__ == "__main__":
    main()
