"""The text form of a component and its options, `NAME[=WEIGHT][,KEY=VALUE...]`: that of flags and of TOML files."""

import contextlib
from typing import Any

from raectl import registry
from raectl.config.option import Option, word
from raectl.errors import UsageError

FLAGS = {"regularizer": "--reg", "reconstruction": "--reconstruction", "density": "--density"}
FORM, WEIGHTED_FORM = "NAME[,KEY=VALUE...]", "NAME[=WEIGHT][,KEY=VALUE...]"
WEIGHT: Option[float | None] = Option(None, "lam, of the penalty in the loss.", low=0.0)


def parse(kind: str, text: str) -> tuple[str, dict[str, Any]]:
    """A component's name and options, typed by their look; only the component knows whether it has such options.

    Raises:
        UsageError: there is no such component, or the text has another form.

    Example:
        >>> parse("regularizer", "gradient-penalty=1e-2,part=0.5,form=released")
        ('gradient-penalty', {'weight': 0.01, 'part': 0.5, 'form': 'released'})
    """
    head, *parts = text.split(",")
    name, equals, weight = head.partition("=")
    typed = f"{FLAGS[kind]} {registry.check(kind, name.strip())}"
    options: dict[str, Any] = {}
    if equals:
        if kind != "regularizer":
            raise UsageError(f"{typed}={weight}: only a regularizer has a weight", f"{typed},KEY=VALUE")
        options["weight"] = _value(weight)
        if not weight or isinstance(options["weight"], str):
            raise UsageError(f"{typed}={weight}: the weight {weight!r} is no number", f"{typed}=1e-4")
    for part in parts:
        key, _, value = (word.strip() for word in part.partition("="))
        key = key.replace("-", "_")
        if not key or not value:
            raise UsageError(f"{typed},{part}: {part!r} is not KEY=VALUE", f"{typed},help lists its keys")
        if key in options or key == "name":
            raise UsageError(f"{FLAGS[kind]} {text} gives {key} twice", "one value for each")
        options[key] = _value(value)
    return name.strip(), options


def _value(text: str) -> Any:
    """A whole number, a number, a truth value, or else a word, by its look.

    Example:
        >>> [_value(text) for text in ("10", "1e3", "0.5", "true", "exact")]
        [10, 1000, 0.5, True, 'exact']
    """
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            value = number(text)
            return int(value) if isinstance(value, float) and value.is_integer() else value
    return text


def text_of(name: str, **options: Any) -> str:
    """The inverse of `parse`; options that are None are left out.

    Example:
        >>> text_of("gradient-penalty", weight=0.01, form="exact", part=0.5)
        'gradient-penalty=0.01,form=exact,part=0.5'
    """
    given = {key: word(value) for key, value in options.items() if value is not None}
    head = name + (f"={given.pop('weight')}" if "weight" in given else "")
    return ",".join([head, *(f"{key}={value}" for key, value in given.items())])
