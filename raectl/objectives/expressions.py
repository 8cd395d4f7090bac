"""The distance of an expression of one variable from a target function."""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from raectl.objectives.base import Objective

_X = np.linspace(-10, 10, 1000)
_Y = 1 / 3 + _X + np.sin(_X * _X)
_MAX_ERROR = 1000.0  # squared error at a point, at most
WORST = math.log(1 + _MAX_ERROR)
_TOKEN = re.compile(r"(sin\(|exp\(|\()|([-+*/])|(\))|(x)|(\d+(?:\.\d+)?)")
_OPENS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"(": np.positive, "sin(": np.sin, "exp(": np.exp}
_OPERATORS = {"+": (1, np.add), "-": (1, np.subtract), "*": (2, np.multiply), "/": (2, np.true_divide)}


class Expressions(Objective):
    """log(1 + mean squared error) against 1/3 + x + sin(x^2), see `score`."""

    name = "expressions"
    lower_is_better = True
    worst = WORST

    def is_valid(self, text: str) -> bool:
        try:
            with np.errstate(all="ignore"):
                evaluate(text, _X[:1])
        except ValueError:
            return False
        return True

    def __call__(self, strings: Sequence[str]) -> np.ndarray:
        return np.array([score(text) if self.is_valid(text) else np.nan for text in strings], np.float64)


def score(text: str) -> float:
    """log(1 + mean min((f(x) - y(x))^2, 1000)), y = 1/3 + x + sin(x^2), over 1000 points x from -10 to 10.

    A string that is not an expression, or has a value that is not finite, scores log 1001.

    Reference: Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, section 4.1, and its code.

    Example:
        >>> round(score("x"), 3), round(score("1/3+x+sin(x*x)"), 3)
        (0.488, 0.0)
    """
    with np.errstate(all="ignore"):
        try:
            error = float(np.minimum((evaluate(text, _X) - _Y) ** 2, _MAX_ERROR).mean())
        except ValueError:
            return WORST
    return math.log(1 + error) if math.isfinite(error) else WORST


def evaluate(text: str, x: np.ndarray) -> np.ndarray:
    """The values at x of an expression of x, numbers, + - * / ( sin( exp( ): (N,) => (N,). Without recursion or `eval`.

    Raises:
        ValueError: the text is not such an expression.
    """
    values: list[np.ndarray] = []
    pending: list[str] = []  # operators and open brackets

    def apply(least: int) -> None:
        while pending and pending[-1] in _OPERATORS and _OPERATORS[pending[-1]][0] >= least:
            right, left = values.pop(), values.pop()
            values.append(_OPERATORS[pending.pop()][1](left, right))

    at, wants_value = 0, True
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or wants_value == bool(token[2] or token[3]):
            raise ValueError(f"{text[at:]!r} is unexpected")
        at = token.end()
        if token[1]:
            pending.append(token[1])
        elif token[2]:
            apply(_OPERATORS[token[2]][0])
            pending.append(token[2])
            wants_value = True
        elif token[3]:
            apply(0)
            if not pending:
                raise ValueError("a bracket is closed that is not open")
            values.append(_OPENS[pending.pop()](values.pop()))
        else:
            values.append(x if token[4] else np.full_like(x, float(token[5])))
            wants_value = False
    if wants_value:
        raise ValueError("it is incomplete")
    apply(0)
    if pending:
        raise ValueError("a bracket is not closed")
    return values[0]
