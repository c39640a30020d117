"""Whether a rate throws what is learned to the ends of its range: a set of black and white pixels is finite, and of no use."""

import warnings
from dataclasses import fields

from limbeck.core.method import Method
from limbeck.core.synthetic import Synthetic
from limbeck.errors import LimbeckWarning

__all__ = ["saturation"]

EVERY = 10  # steps; the last one, too
MOST = 0.5  # of the values
RISEN = 2.0  # times the share at the start; pictures on white have many such pixels to begin with


def saturation(method: Method, synthetic: Synthetic, t: int) -> dict[str, float]:
    """Looks after step `t`, every few steps, and warns when it is seen and in the end.

    Args:
        method: whose rates a person would lower.
        synthetic: after the step, brought back into its ranges.
        t: from 0.

    Returns:
        what to log: for each modality that has gone too far, the share of its values that stand at an end of their range.
    """
    last = t + 1 == method.steps
    if not last and (t + 1) % EVERY:
        return {}
    logs = {}
    for modality, share in synthetic.at_ends().items():
        before = synthetic.started.get(modality, 0.0)
        if share < MOST or share < RISEN * before:
            continue
        logs[f"at ends {modality}"] = share
        if last or modality not in synthetic.warned:
            synthetic.warned.add(modality)
            what = "pixels" if modality == "image" else f"values of {modality}"
            warnings.warn(
                f"after step {t + 1}, {share:.0%} of the {what} stand at the ends of their range, {before:.0%} did at the start: the "
                f"steps are too large; {_remedy(method, modality)}, in a new run folder",
                LimbeckWarning,
                stacklevel=2,
            )
    return logs


def _remedy(method: Method, modality: str) -> str:
    names = {field.name for field in fields(method)}
    rate = next(
        (name for name in (f"lr_{modality}", "lr" if modality == "image" else "lr_other", "lr") if name in names), None
    )
    return f"lower --method.{rate} (in Python {rate}=)" if rate else method.remedy_for(f"learned.{modality}")
