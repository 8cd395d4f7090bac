"""The declaration of an option: from it come its flag or key, its help, and the check of what is given for it."""

import dataclasses
import math
import sys
from dataclasses import KW_ONLY, dataclass
from numbers import Integral, Real
from typing import Any, Generic, Self, TypeVar, overload

from raectl import registry
from raectl.errors import UsageError

T = TypeVar("T")
_IS_NO = {bool: "neither true nor false", int: "no whole number", float: "no finite number", str: "no text"}
_KINDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}


@dataclass(frozen=True)
class Option(Generic[T]):
    """An option of a component, a run or a command.

    As an attribute of a `Component`'s class it declares an option; in an instance, the attribute is the option's value.

    Arguments:
        default: None for one that depends on the data or the model; then None may be given, too.
        help: what it is for: a sentence.
        low, high: the least and the largest value.
        above: a bound that is not a value itself.
        choices: the values that it may have.
        component: the kind of registered component that it names.
        shown: the default in words, where that is not its value.
        panel: the part of the command's help in which it stands; None for an option of TOML files and Python only.
        metavar: what its value is called there.

    Example:
        >>> option = Option(0.25, "A share.", above=0, high=1)
        >>> option.check(1, "--part "), option.describe()
        (1.0, 'number, above 0, up to 1')
    """

    default: T
    help: str
    _: KW_ONLY
    low: float | None = None
    above: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    component: str = ""
    shown: str = ""
    panel: str | None = None
    metavar: str | None = None

    def __post_init__(self) -> None:
        if not self.shown:
            object.__setattr__(self, "shown", "" if self.default is None else word(self.default))

    @property
    def kind(self) -> type:
        """Of its values: that of the default, or of `low` or the choices where that is None; else text."""
        return type(next((value for value in (self.default, self.low, *self.choices) if value is not None), ""))

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        return self if instance is None else self.default

    def check(self, value: Any, typed: str) -> Any:
        """Return `value`, a whole number as a float where that is the kind; nothing else is converted.

        Arguments:
            typed: how the option is typed before its value: `--lr ` or `--density kde,bandwidth=`.

        Raises:
            UsageError: it has another type, or is out of range.
        """
        if value is None and self.default is None:
            return value
        shown = typed + (word(value) if isinstance(value, bool | int | float) else repr(value))
        if self.choices:
            if type(value) is not self.kind or value not in self.choices:
                raise UsageError(f"{shown} is none of {', '.join(map(word, self.choices))}", self._remedy(value, typed))
            return value
        if not self._is_of_kind(value):
            raise UsageError(f"{shown} is {_IS_NO[self.kind]}", self._remedy(value, typed))
        if not self.holds(value):
            raise UsageError(f"{shown} is out of range: {self.limits()}", self._remedy(value, typed))
        return registry.check(self.component, value) if self.component else self.kind(value)

    def _is_of_kind(self, value: Any) -> bool:
        if self.kind in (bool, str):
            return type(value) is self.kind
        if isinstance(value, bool) or not isinstance(value, Integral if self.kind is int else Real):
            return False
        if isinstance(value, Integral):  # which a float may not hold
            return self.kind is int or abs(int(value)) <= sys.float_info.max
        return math.isfinite(value)

    def holds(self, value: Any) -> bool:
        """Whether a value of the kind is in the range."""
        is_low = (self.low is not None and value < self.low) or (self.above is not None and value <= self.above)
        return not is_low and (self.high is None or value <= self.high)

    def limits(self) -> str:
        """The range in words, empty if there is none."""
        if self.low is not None and self.high is not None:
            return f"{word(self.low, ',')} to {word(self.high, ',')}"
        ends = ((self.low, "{} or above"), (self.above, "above {}"), (self.high, "up to {}"))
        return ", ".join(text.format(word(end, ",")) for end, text in ends if end is not None)

    def _remedy(self, value: Any, typed: str) -> str:
        """What to type instead: the default, or else the value that is nearest."""
        if self.default is not None and self.kind is not bool:
            return typed + word(self.default)
        if self._is_of_kind(value) and (self.low, self.high) != (None, None):
            return typed + word(self.low if self.low is not None and value < self.low else self.high)
        return f"{typed.rstrip(' =')}: {self.describe()}"

    def typed(self, name: str) -> str:
        """Its name on the command line, or in a TOML file where it is not an option of the command line."""
        return "--" + name.replace("_", "-") if self.panel else name

    def describe(self) -> str:
        """What it may be, in words."""
        if self.choices:
            *most, last = map(word, self.choices)
            return f"{', '.join(most)} or {last}"
        return ", ".join(filter(None, (_KINDS[self.kind], self.limits())))


def word(value: Any, thousands: str = "") -> str:
    """A value as it is typed, and as TOML has it if it is no text.

    Example:
        >>> word(True), word(1e-4), word(0.1 + 0.2), word(10_000, ","), word("exact")
        ('true', '0.0001', '0.30000000000000004', '10,000', 'exact')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:{thousands}}"
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return str(value)


def declared(default: Any, help: str, option_class: type[Option[Any]] = Option, **more: Any) -> Any:
    """A field of a dataclass that is declared as an option; see `Option` for the arguments."""
    option = option_class(default, help, **more)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata={"option": option})
    return dataclasses.field(default=default, metadata={"option": option})


def options_of(kind: type) -> dict[str, Option[Any]]:
    """The options that the fields of a dataclass declare, by name."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(kind) if "option" in field.metadata}


@dataclass(frozen=True)
class Checked:
    """A record whose fields are declared as options, checked when it is created."""

    def __post_init__(self) -> None:
        for name, option in options_of(type(self)).items():
            object.__setattr__(self, name, option.check(getattr(self, name), f"{option.typed(name)} "))
