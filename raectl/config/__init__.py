"""Options: how each is declared, the text form of a component with its options, and those of a training run."""

from raectl.config.component import Component
from raectl.config.config import Config, Reconstruction, Regularizers, SourceOptions, as_typed, read_toml
from raectl.config.option import Checked, Option, declared, options_of
from raectl.config.size import as_size, sides
from raectl.config.text import FLAGS, FORM, WEIGHT, parse, text_of

__all__ = [
    "FLAGS",
    "FORM",
    "WEIGHT",
    "Checked",
    "Component",
    "Config",
    "Option",
    "Reconstruction",
    "Regularizers",
    "SourceOptions",
    "as_size",
    "as_typed",
    "declared",
    "options_of",
    "parse",
    "read_toml",
    "sides",
    "text_of",
]
