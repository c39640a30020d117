"""The search for a method and a storage that make the best set of a size."""

from limbeck.search.auto import SearchResult, auto
from limbeck.search.candidates import FREE
from limbeck.search.trials import Trial

__all__ = ["FREE", "SearchResult", "Trial", "auto"]
