"""How sets are judged: metrics, students, protocols, scores, tables, comparisons."""

from limbeck.evaluation.compare import compare
from limbeck.evaluation.comparison import Comparison
from limbeck.evaluation.encoders import ByEncoder, by_encoder
from limbeck.evaluation.evaluate import evaluate
from limbeck.evaluation.gain import PairedGain
from limbeck.evaluation.protocol import Context, Protocol
from limbeck.evaluation.score import Paired, Score, paired, read_scores, write_scores
from limbeck.evaluation.score_table import ScoreTable
from limbeck.evaluation.table import table

Contrast = PairedGain  # the old name

__all__ = [
    "ByEncoder",
    "Comparison",
    "Context",
    "Contrast",
    "Paired",
    "PairedGain",
    "Protocol",
    "Score",
    "ScoreTable",
    "by_encoder",
    "compare",
    "evaluate",
    "paired",
    "read_scores",
    "table",
    "write_scores",
]
