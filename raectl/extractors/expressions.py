"""Features of univariate expressions: validity, identity, and distance from the target function."""

from raectl.extractors.strings import Strings
from raectl.objectives.expressions import score


class Expressions(Strings):
    """Features (valid, identity, identity, score): `strings`, and the score of the expression; lower is better."""

    name = "expressions"
    dim = 4
    set_metrics = ("validity", "score")

    def _row(self, text: str) -> list[float]:
        return [*super()._row(text)[:3], score(text)]
