"""Options: how each is declared, the text form of a component with its options, and those of a training run."""

from raectl.config.component import Component
from raectl.config.config import (
    MOST_CHANNELS,
    Config,
    Reconstruction,
    Regularizers,
    SourceOptions,
    as_typed,
    bands,
    read_toml,
)
from raectl.config.option import Checked, Option, declared, options_of
from raectl.config.size import as_size, sides
from raectl.config.text import FLAGS, FORM, WEIGHT, parse, text_of

__all__ = [
    "FLAGS",
    "FORM",
    "MOST_CHANNELS",
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
    "bands",
    "declared",
    "options_of",
    "parse",
    "read_toml",
    "sides",
    "text_of",
]
