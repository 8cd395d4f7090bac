"""How near an expression's function is to the one that is sought."""

import math
import re
from collections.abc import Callable, Sequence

import numpy as np

from raectl.objectives.base import Objective

_X = np.linspace(-10, 10, 1000)
_Y = 1 / 3 + _X + np.sin(_X * _X)
_MOST = 1000.0  # squared error at a point
WORST = math.log(1 + _MOST)
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

    What is no expression, or not a number somewhere, scores log 1001. Division is that of real numbers.

    Reference: Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017, section 4.1, and its code.

    Example:
        >>> round(score("x"), 3), round(score("1/3+x+sin(x*x)"), 3)
        (0.488, 0.0)
    """
    with np.errstate(all="ignore"):
        try:
            error = float(np.minimum((evaluate(text, _X) - _Y) ** 2, _MOST).mean())
        except ValueError:
            return WORST
    return math.log(1 + error) if math.isfinite(error) else WORST


def evaluate(text: str, x: np.ndarray) -> np.ndarray:
    """The values at x of an expression of x, numbers, + - * / and brackets, sin( and exp(: (N,) => (N,).

    Nothing recurses, and no text is run as a program.

    Raises:
        ValueError: it is none.
    """
    values: list[np.ndarray] = []
    waiting: list[str] = []  # operators, and brackets that are open

    def finish(least: int) -> None:
        while waiting and waiting[-1] in _OPERATORS and _OPERATORS[waiting[-1]][0] >= least:
            right, left = values.pop(), values.pop()
            values.append(_OPERATORS[waiting.pop()][1](left, right))

    at, wants_value = 0, True
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or wants_value == bool(token[2] or token[3]):
            raise ValueError(f"{text[at:]!r} is not expected")
        at = token.end()
        if token[1]:
            waiting.append(token[1])
        elif token[2]:
            finish(_OPERATORS[token[2]][0])
            waiting.append(token[2])
            wants_value = True
        elif token[3]:
            finish(0)
            if not waiting:
                raise ValueError("a bracket is closed that was not open")
            values.append(_OPENS[waiting.pop()](values.pop()))
        else:
            values.append(x if token[4] else np.full_like(x, float(token[5])))
            wants_value = False
    if wants_value:
        raise ValueError("it has no end")
    finish(0)
    if waiting:
        raise ValueError("a bracket is not closed")
    return values[0]
