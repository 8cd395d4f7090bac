"""Features of univariate expressions: those of strings, and how near the function is to the one that is sought."""

from raectl.extractors.strings import Strings
from raectl.objectives.expressions import score


class Expressions(Strings):
    """Features (valid, identity, identity, score): those of `strings`, and the score; the lower, the better."""

    name = "expressions"
    set_metrics = ("validity", "score")

    @property
    def dim(self) -> int:
        return 4

    def _row(self, text: str) -> list[float]:
        return [*super()._row(text)[:3], score(text)]
