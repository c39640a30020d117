"""Distillation methods: one file = one method; the file's name is its name. Classes are imported when first used."""

from typing import Any

from limbeck import registry


def __getattr__(name: str) -> Any:
    for method in registry.names("method"):
        if method.replace("_", "") == name.lower():
            return registry.get("method", method)
    raise AttributeError(
        f"module 'limbeck.methods' has no attribute {name!r}; known: {', '.join(registry.names('method'))}"
    )
