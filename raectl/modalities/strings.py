"""Strings of a context-free grammar: derivations of T productions, given to the networks one-hot as (T, D).

Decoding is masked: each step chooses among the productions that apply to the leftmost nonterminal. So a string that is
finished after T steps belongs to the grammar. One that is not is written as an empty line.

Reference: Kusner, Paige, Hernández-Lobato, "Grammar Variational Autoencoder", ICML 2017.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raectl import grammars
from raectl.errors import RaectlError
from raectl.grammars.parser import LONGEST
from raectl.modalities.base import Modality, Writer
from raectl.storage.atomic import atomic_file

_SHORT = 64  # productions up to which the networks for expressions are the default; beyond, those for molecules
_TINY = 1e-30  # added to probabilities, so that those of applicable productions are positive
_LEAST = 1e-7  # of a likelihood, before the logarithm
_AT_ONCE = 2**24  # probabilities in memory for a block of draws
# Extractors for a built-in grammar; the first is its default.
_EXTRACTORS = {"expressions": ("expressions",), "smiles": ("molecules", "penalized-logp")}


class StringWriter(Writer):
    """Writes strings as lines of text; `shown` gives those of items: (B, T) uint8 => (B,) text."""

    def __init__(self, shown: Callable[[np.ndarray], np.ndarray], suffixes: tuple[str, ...]) -> None:
        self._shown, self.suffixes = shown, suffixes

    def write(
        self,
        out: Path,
        batches: Iterable[np.ndarray],
        total: int,
        names: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> str | None:
        """A string a line; the remark is the number of empty lines."""
        empty = 0

        def lines() -> Iterator[tuple[str]]:
            nonlocal empty
            for batch in batches:
                texts = self._shown(batch).tolist()
                empty += texts.count("")
                yield from ((text,) for text in texts)

        self._write(out, lines(), total)
        return f"{empty:,} of {total:,} lines are empty" if empty else None

    def write_pairs(
        self, out: Path, originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """A line per pair: the original, a tab, the reconstruction."""
        self._write(out, zip(self._shown(originals), self._shown(reconstructions), strict=True))

    def write_walks(self, out: Path, walks: np.ndarray) -> None:
        """A line per walk, with tabs between its steps."""
        self._write(out, map(self._shown, walks))

    def write_rows(self, out: Path, labels: Sequence[str], rows: Sequence[np.ndarray]) -> str | None:
        """A line per row: its label and its strings, with tabs in between."""
        texts = [self._shown(row).tolist() for row in rows]
        self._write(out, ((label, *row) for label, row in zip(labels, texts, strict=True)))
        empty, total = sum(row.count("") for row in texts), sum(map(len, texts))
        return f"{empty:,} of {total:,} strings are empty" if empty else None

    def write_picture(self, out: Path, pairs: tuple[np.ndarray, np.ndarray], samples: np.ndarray | None) -> Path:
        """A `.txt`: originals and their reconstructions, and the samples below."""
        out = out.with_suffix(".txt")
        below = [] if samples is None else [("",), ("samples",), *((text,) for text in self._shown(samples))]
        self._write(out, [("originals", "reconstructions"), *zip(*map(self._shown, pairs), strict=True), *below])
        return out

    def _write(self, out: Path, lines: Iterable[Iterable[str]], total: int | None = None) -> None:
        """Write lines of tab-separated texts as UTF-8; a `ValueError` unless there are `total` lines, if given."""
        self.check_out(out)
        count = 0
        with atomic_file(out) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
            for texts in lines:
                file.write("\t".join(texts) + "\n")
                count += 1
            if total not in (None, count):
                raise ValueError(f"{count} items instead of {total}")


class Strings(Modality):
    """Strings of the grammar of a text; a `RaectlError` if none is given."""

    reconstructions = ("cross-entropy",)
    metrics = ("exact-match", "production-accuracy")
    values = "productions"
    is_drawn = True

    def __init__(self, grammar: str | None = None, **options: Any) -> None:
        super().__init__(grammar=grammar, **options)
        if not isinstance(grammar, str):
            raise RaectlError("strings need a grammar, and none is given")
        self.grammar = grammars.from_text(grammar)
        suffixes = (".txt", ".smi") if self.grammar == grammars.read("smiles") else (".txt",)
        self.writer = StringWriter(self.shown, suffixes)
        mask = torch.tensor(self.grammar.mask)
        widest = max(1, *map(len, self.grammar.pushed))
        pushed = [[*reversed(lefts)] + [0] * (widest - len(lefts)) for lefts in self.grammar.pushed]
        self._tables = {
            "one": torch.eye(self.grammar.size),  # (D, D)
            "mask": mask,  # (L, D): which productions apply to which nonterminal
            "alternatives": mask[torch.tensor(self.grammar.left)],  # (D, D): which productions have the same left side
            "pushed": torch.tensor(pushed),  # (D, P): nonterminals on the right side, in reverse, padded
            "count": torch.tensor([*map(len, self.grammar.pushed)]),  # (D,)
        }

    @property
    def extractors(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those for this grammar if it is built in, and the general ones."""
        known = {grammars.read(grammar): names for grammar, names in _EXTRACTORS.items()}
        others = sorted(name for names in known.values() for name in names)
        return (*known[self.grammar], "strings") if self.grammar in known else ("strings", *others)

    def default_architecture(self, item_shape: tuple[int, ...]) -> str:
        return "conv-gru" if item_shape[0] <= _SHORT else "conv-gru-large"

    def default_latent_dim(self, item_shape: tuple[int, ...]) -> int:
        """As in the Grammar VAE, for expressions and for molecules."""
        return 25 if item_shape[0] <= _SHORT else 56

    def default_betas(self, latent_dim: int) -> Mapping[str, float]:
        """1 / d: the Grammar VAE takes the mean over latent dimensions, with weight 1."""
        return dict.fromkeys(("rae", "vae", "cv-vae", "iwae"), 1 / latent_dim)

    def data_dim(self, item_shape: tuple[int, ...]) -> int:
        """T: the reconstruction term is a mean over productions, summed over steps."""
        return item_shape[0]

    def item_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        (length,) = stored
        if length > LONGEST:
            raise RaectlError(f"derivations of {length:,} productions are longer than {LONGEST:,}")
        return length, self.grammar.size

    def to_tensor(self, items: Tensor) -> Tensor:
        """(B, T) uint8 => (B, T, D) float32, one-hot."""
        return self._on(items.device)["one"][items.long()]

    def to_items(self, x_hat: Tensor) -> np.ndarray:
        """The most probable applicable production, step by step."""
        return self.derive(x_hat.detach().float()).to(torch.uint8).cpu().numpy()

    def derive(self, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Derivations from a decoder's probabilities, in parallel: (B, T, D) => (B, T) productions.

        Arguments:
            x_hat: the probabilities; those of productions that do not apply are ignored.
            generator: samples each production by its probability; without one, the most probable is taken.
        """
        tables = self._on(x_hat.device)
        batch, length, _ = x_hat.shape
        widest = tables["pushed"].shape[1]
        if generator is not None:  # the Gumbel-max trick
            noise = torch.rand(x_hat.shape, generator=generator, device=x_hat.device).clamp_min(_TINY)
            x_hat = (x_hat + _TINY).log() - (-noise.log()).clamp_min(_TINY).log()
        # A stack of nonterminals per item; at the bottom the padding's, which stays.
        stack = torch.zeros(batch, 2 + widest * (length + 1), dtype=torch.long, device=x_hat.device)
        stack[:, 0] = len(tables["mask"]) - 1
        top = torch.ones(batch, 1, dtype=torch.long, device=x_hat.device)
        offsets = torch.arange(1, widest + 1, device=x_hat.device)
        derivations = torch.empty(batch, length, dtype=torch.long, device=x_hat.device)
        for step in range(length):
            applies = tables["mask"][stack.gather(1, top)[:, 0]]
            rule = x_hat[:, step].masked_fill(~applies, -torch.inf).argmax(dim=1)
            top = (top - 1).clamp_min(0)
            stack.scatter_(1, top + offsets, tables["pushed"][rule])
            top = top + tables["count"][rule][:, None]
            derivations[:, step] = rule
        return derivations

    def mode(
        self, x_hat: Tensor, draws: int, generator: torch.Generator, is_valid: Callable[[str], bool]
    ) -> np.ndarray:
        """The most frequent valid string of some draws: (T, D) => (T,) uint8, all padding if none is valid.

        Reference: the Grammar VAE's code for optimization, with 25 draws of an expression, 500 of a molecule.
        """
        block = max(1, _AT_ONCE // x_hat.numel())
        sizes = [min(block, draws - first) for first in range(0, draws, block)]
        drawn = torch.cat([self.derive(x_hat.expand(n, *x_hat.shape), generator).to(torch.uint8) for n in sizes])
        texts = self.shown(drawn.numpy()).tolist()
        for text, _ in Counter(texts).most_common():
            if text and is_valid(text):
                return drawn[texts.index(text)].numpy()
        return np.full(len(x_hat), self.grammar.padding, np.uint8)

    def alternatives(self, x: Tensor) -> Tensor:
        """The productions with the left side of the true one, at each step: (B, T, D) one-hot => (B, T, D) bool."""
        return self._on(x.device)["alternatives"][x.argmax(dim=2)]

    def deviation(self, x: Tensor, x_hat: Tensor) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood of the string's productions in nats, and their number, without the padding."""
        p = (x_hat.float() + _TINY) * self.alternatives(x)
        likelihood = (p * x).sum(dim=2) / p.sum(dim=2)
        counts = x.argmax(dim=2) != self.grammar.padding
        return -(likelihood.clamp_min(_LEAST).log() * counts).sum(dim=1), counts.sum(dim=1).float()

    def measured(self, x_hat: Tensor) -> Tensor:
        """The decoded derivations, one-hot."""
        return self._on(x_hat.device)["one"][self.derive(x_hat.detach().float())]

    def labels(self, items: np.ndarray) -> list[str]:
        """The strings themselves."""
        return self.shown(items).tolist()  # type: ignore[no-any-return]

    @property
    def key(self) -> str:
        return self.grammar.text()

    def shown(self, items: np.ndarray) -> np.ndarray:
        """The strings, empty if unfinished: (B, T) uint8 => (B,) text."""
        return np.array([self.grammar.string(derivation) or "" for derivation in items.tolist()], np.str_)

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        if self._tables["one"].device != device:
            self._tables = {name: table.to(device) for name, table in self._tables.items()}
        return self._tables
