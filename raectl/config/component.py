"""What registered components with options share: declarations, a constructor that checks, and the record of values."""

import difflib
from collections.abc import Mapping
from inspect import Parameter, Signature, signature
from typing import Any, ClassVar

from raectl.config.option import Option
from raectl.errors import UsageError


class Component:
    """A component whose options are keyword arguments of the constructor, and attributes.

    Each is declared once, as an attribute of the class. From that come its key on the command line and in TOML files,
    the check of what is given, that of a stored record, and its line in the help and in docs/cli.md.

    Attributes:
        options: the declarations, those of base classes first.

    Raises:
        UsageError: an option is unknown, or its value out of range.

    Example:
        >>> class Blur(Component):
        ...     radius = Option(2.0, "Of the blur, in pixels.", above=0)
        >>> Blur(radius=3).radius, Blur().settings
        (3.0, {'radius': 2.0})
    """

    options: ClassVar[Mapping[str, Option[Any]]] = {}

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls.options = {**cls.options, **{k: option for k, option in vars(cls).items() if isinstance(option, Option)}}
        own = [p for p in signature(cls.__init__).parameters.values() if p.kind is not Parameter.VAR_KEYWORD]
        keys = [Parameter(key, Parameter.KEYWORD_ONLY, default=o.default) for key, o in cls.options.items()]
        cls.__signature__ = Signature([*own[1:], *keys])  # type: ignore[attr-defined]  # what help() shows

    def __init__(self, **given: Any) -> None:
        vars(self).update(self.checked(given))

    @property
    def settings(self) -> dict[str, Any]:
        """The value of each option, as stored: with these as arguments the constructor makes the same."""
        return {key: getattr(self, key) for key in self.options}

    @classmethod
    def checked(cls, given: Mapping[str, Any], typed: str = "") -> dict[str, Any]:
        """The value of each option: what is given, checked, or the default.

        Arguments:
            typed: how the component is typed, for messages: `--density kde`.

        Raises:
            UsageError: an option is unknown, or its value out of range.
        """
        for key in given:
            if key not in cls.options:
                near = difflib.get_close_matches(str(key), cls.options, 1)
                hint = f"did you mean {near[0]}? " if near else ""
                hint += f"known: {', '.join(cls.options)}" if cls.options else "it has none"
                raise UsageError(f"{typed or cls.__name__} has no option {key!r}", hint)
        before = f"{typed}," if typed else ""
        return {
            key: option.check(given[key], f"{before}{key}=") if key in given else option.default
            for key, option in cls.options.items()
        }
