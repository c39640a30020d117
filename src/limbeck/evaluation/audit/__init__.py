"""What a set gives away of the data it was made from, and how varied it is."""

from limbeck.evaluation.audit.nearest import NearestNeighbours
from limbeck.evaluation.audit.result import Audit, Diversity, Leak
from limbeck.evaluation.audit.run import audit

__all__ = ["Audit", "Diversity", "Leak", "NearestNeighbours", "audit"]
