"""Limbeck turns a large multimodal dataset into a tiny one that trains models almost as well.

    import limbeck as lb

    train = lb.source("demo", split="train")
    space = lb.space(image="efficientnet_lite0", text="minilm")
    problem = lb.Problem(train, space, lb.Budget(pairs=100))
    small = lb.distill(problem, lb.methods.CF())
    print(lb.table(lb.evaluate(small, train, protocol="retrieval")))

Names are imported when they are first used, so that `import limbeck` is instant.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "Batch": "limbeck.data",
    "Budget": "limbeck.core",
    "Cache": "limbeck.data",
    "DistilledSet": "limbeck.core",
    "Encoder": "limbeck.spaces",
    "Method": "limbeck.core",
    "Modality": "limbeck.data",
    "Pixels": "limbeck.core",
    "Problem": "limbeck.core",
    "Recipe": "limbeck.core",
    "Score": "limbeck.evaluation",
    "Source": "limbeck.data",
    "Space": "limbeck.spaces",
    "Storage": "limbeck.core",
    "Synthetic": "limbeck.core",
    "allow": "limbeck.registry",
    "auto": "limbeck.search",
    "check": "limbeck.check",
    "compare": "limbeck.evaluation",
    "distill": "limbeck.engine",
    "errors": "limbeck.errors",
    "evaluate": "limbeck.evaluation",
    "load": "limbeck.core",
    "methods": "limbeck.methods",
    "report": "limbeck.report",
    "source": "limbeck.sources",
    "space": "limbeck.spaces.build",
    "steps": "limbeck.engine",
    "table": "limbeck.evaluation",
}

__all__ = [
    "Batch",
    "Budget",
    "Cache",
    "DistilledSet",
    "Encoder",
    "Method",
    "Modality",
    "Pixels",
    "Problem",
    "Recipe",
    "Score",
    "Source",
    "Space",
    "Storage",
    "Synthetic",
    "__version__",
    "allow",
    "auto",
    "check",
    "compare",
    "distill",
    "errors",
    "evaluate",
    "load",
    "methods",
    "report",
    "source",
    "space",
    "steps",
    "table",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
    module = importlib.import_module(_WHERE[name])
    value = module if _WHERE[name] == f"limbeck.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
