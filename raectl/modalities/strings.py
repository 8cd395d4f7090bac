"""Strings of a context-free grammar: (T,) rules of their derivations, seen by the networks as (T, D), one of D a step.

Whatever a decoder gives, only rules that apply are followed: each step takes one for the first left side that waits.
So a string that is finished after T rules belongs to the grammar. One that is not is written as an empty line.

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
from raectl.modalities.base import Modality
from raectl.storage.atomic import atomic_file

_LONG = 64  # rules; the nets for molecules beyond
_LEAST = 1e-7  # probability whose logarithm is taken; Keras's
_TINY = 1e-30  # that no rule which applies falls below
_AT_ONCE = 2**24  # probabilities that are drawn by at a time
# Of the built-in grammars that have their own; the first is the default.
_EXTRACTORS = {"expressions": ("expressions",), "smiles": ("molecules", "penalized-logp")}


class Strings(Modality):
    """Strings of one grammar.

    Arguments:
        grammar: its text.
        options: others, which mean nothing here.

    Raises:
        RaectlError: there is no grammar.
    """

    metrics = ("exact-match", "production-accuracy")
    suffixes: tuple[str, ...] = (".txt",)
    picture_suffixes = ()
    writes_directories = False
    is_drawn = True

    def __init__(self, grammar: str | None = None, **options: Any) -> None:
        super().__init__(grammar=grammar, **options)
        if not isinstance(grammar, str):
            raise RaectlError("there is no grammar, without which strings mean nothing")
        self.grammar = grammars.from_text(grammar)
        if self.grammar == grammars.read("smiles"):
            self.suffixes = (".txt", ".smi")
        mask = torch.tensor(self.grammar.mask)
        widest = max(1, *map(len, self.grammar.pushed))
        pushed = [[*reversed(lefts)] + [0] * (widest - len(lefts)) for lefts in self.grammar.pushed]
        self._tables = {
            "one": torch.eye(self.grammar.size),  # (D, D)
            "mask": mask,  # (L, D): which rules may replace which left side
            "rivals": mask[torch.tensor(self.grammar.left)],  # (D, D): which rules could stand in a rule's place
            "pushed": torch.tensor(pushed),  # (D, P): left sides that a rule leaves to do, the first of them last
            "count": torch.tensor([*map(len, self.grammar.pushed)]),  # (D,)
        }

    @property
    def extractors(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the built-in grammar which this is, if there is one, and what holds for all."""
        known = {grammars.read(grammar): names for grammar, names in _EXTRACTORS.items()}
        others = sorted(name for names in known.values() for name in names)
        return (*known[self.grammar], "strings") if self.grammar in known else ("strings", *others)

    def default_architecture(self, item_shape: tuple[int, ...]) -> str:
        return "conv-gru" if item_shape[0] <= _LONG else "conv-gru-large"

    def default_latent_dim(self, item_shape: tuple[int, ...]) -> int:
        """The Grammar VAE's, for expressions and for molecules."""
        return 25 if item_shape[0] <= _LONG else 56

    def default_betas(self, latent_dim: int) -> Mapping[str, float]:
        """1 / d: the Grammar VAE's mean over latent dimensions, with weight 1."""
        return dict.fromkeys(("rae", "vae", "cv-vae", "iwae"), 1 / latent_dim)

    def data_dim(self, item_shape: tuple[int, ...]) -> int:
        """T: the reconstruction term is a mean over rules, summed over steps."""
        return item_shape[0]

    def item_shape(self, stored: tuple[int, ...]) -> tuple[int, ...]:
        (length,) = stored
        if length > LONGEST:
            raise RaectlError(f"derivations of {length:,} rules are longer than {LONGEST:,}")
        return length, self.grammar.size

    def to_tensor(self, items: Tensor) -> Tensor:
        """(B, T) uint8 => (B, T, D) float32, 1 at each step's rule and 0 elsewhere."""
        return self._on(items.device)["one"][items.long()]

    def to_items(self, x_hat: Tensor) -> np.ndarray:
        """The likeliest rule of those that apply, step by step."""
        return self.derive(x_hat.detach().float()).to(torch.uint8).cpu().numpy()

    def derive(self, x_hat: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Derivations from a decoder's probabilities, for all items at once: (B, T, D) => (B, T) rules.

        Arguments:
            x_hat: the probabilities; those of rules that do not apply do not matter.
            generator: draws each rule by its probability; without one, the likeliest is taken.
        """
        tables = self._on(x_hat.device)
        batch, length, _ = x_hat.shape
        widest = tables["pushed"].shape[1]
        if generator is not None:  # Gumbel-max
            noise = torch.rand(x_hat.shape, generator=generator, device=x_hat.device).clamp_min(_TINY)
            x_hat = (x_hat + _TINY).log() - (-noise.log()).clamp_min(_TINY).log()
        # A stack an item of the left sides to do; at the bottom the padding's, which stays.
        stack = torch.zeros(batch, 2 + widest * (length + 1), dtype=torch.long, device=x_hat.device)
        stack[:, 0] = len(tables["mask"]) - 1
        top = torch.ones(batch, 1, dtype=torch.long, device=x_hat.device)
        places = torch.arange(1, widest + 1, device=x_hat.device)
        rules = torch.empty(batch, length, dtype=torch.long, device=x_hat.device)
        for step in range(length):
            applies = tables["mask"][stack.gather(1, top)[:, 0]]
            rule = x_hat[:, step].masked_fill(~applies, -torch.inf).argmax(dim=1)
            top = (top - 1).clamp_min(0)
            stack.scatter_(1, top + places, tables["pushed"][rule])
            top = top + tables["count"][rule][:, None]
            rules[:, step] = rule
        return rules

    def mode(
        self, x_hat: Tensor, draws: int, generator: torch.Generator, is_valid: Callable[[str], bool]
    ) -> np.ndarray:
        """The most frequent valid string of some draws: (T, D) => (T,) uint8, all padding where none is valid.

        Reference: the Grammar VAE's code, in optimization: of 25 draws of an expression, of 500 of a molecule.
        """
        most = max(1, _AT_ONCE // x_hat.numel())
        parts = [min(most, draws - first) for first in range(0, draws, most)]
        drawn = torch.cat([self.derive(x_hat.expand(n, *x_hat.shape), generator).to(torch.uint8) for n in parts])
        texts = self.shown(drawn.numpy()).tolist()
        ranked = (text for text, _ in Counter(texts).most_common())
        found = next((text for text in ranked if text and is_valid(text)), None)
        nothing = np.full(len(x_hat), self.grammar.padding, np.uint8)
        return nothing if found is None else drawn[texts.index(found)].numpy()

    def reconstruction(self, x: Tensor, x_hat: Tensor) -> Tensor:
        """T times the mean binary cross-entropy over T D values: 2 x (B, T, D) => (B,), the Grammar VAE's.

            -1/D sum_td x log p + (1 - x) log(1 - p),   p the decoder's probability among the rules that could stand
                                                        in the true one's place

        The padding after a string's end counts too.
        """
        with torch.autocast(x.device.type, enabled=False):
            p = (x_hat.float() + _TINY) * self._on(x.device)["rivals"][x.argmax(dim=2)]
            p = p / p.sum(dim=2, keepdim=True)
            right = torch.where(x > 0.5, p, 1 - p)
            return -right.clamp_min(_LEAST).log().sum(dim=(1, 2)) / x.shape[2]

    def measured(self, x_hat: Tensor) -> Tensor:
        """The derivations that it is decoded to."""
        return self._on(x_hat.device)["one"][self.derive(x_hat.detach().float())]

    @property
    def key(self) -> str:
        return self.grammar.text()

    def shown(self, items: np.ndarray) -> np.ndarray:
        """The strings themselves, empty where they are not finished: (B, T) uint8 => (B,) text."""
        return np.array([self.grammar.string(rules) or "" for rules in items.tolist()], np.str_)

    def write(self, out: Path, batches: Iterable[np.ndarray], total: int, names: Sequence[str] = ()) -> str | None:
        """A string a line; the remark tells how many lines are empty."""
        self.check_out(out)
        empty = 0

        def lines() -> Iterator[tuple[str]]:
            nonlocal empty
            for batch in batches:
                texts = self.shown(batch).tolist()
                empty += texts.count("")
                yield from ((text,) for text in texts)

        _write(out, lines(), total)
        return f"{empty:,} of {total:,} lines are empty" if empty else None

    def write_pairs(
        self, out: Path, originals: np.ndarray, reconstructions: np.ndarray, names: Sequence[str] = ()
    ) -> None:
        """An original a line, a tab, and its reconstruction."""
        self.check_out(out)
        _write(out, zip(self.shown(originals), self.shown(reconstructions), strict=True))

    def write_walks(self, out: Path, walks: np.ndarray) -> None:
        """A walk a line, tabs between its steps."""
        self.check_out(out)
        _write(out, map(self.shown, walks))

    def write_rows(self, out: Path, labels: Sequence[str], rows: Sequence[np.ndarray]) -> None:
        """A row a line, its label first, with tabs between."""
        self.check_out(out)
        _write(out, ((label, *self.shown(row)) for label, row in zip(labels, rows, strict=True)))

    def write_picture(self, out: Path, pairs: tuple[np.ndarray, np.ndarray], samples: np.ndarray | None) -> Path:
        """A text: originals and their reconstructions, and samples under them."""
        out = out.with_suffix(".txt")
        drawn = [] if samples is None else [("",), ("samples",), *((text,) for text in self.shown(samples))]
        _write(out, [("originals", "reconstructions"), *zip(*map(self.shown, pairs), strict=True), *drawn])
        return out

    def _on(self, device: torch.device) -> dict[str, Tensor]:
        if self._tables["one"].device != device:
            self._tables = {name: table.to(device) for name, table in self._tables.items()}
        return self._tables


def _write(out: Path, lines: Iterable[Iterable[str]], total: int | None = None) -> None:
    """Lines of texts with tabs between, as UTF-8, `total` of them where that is given."""
    count = 0
    with atomic_file(out) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        for texts in lines:
            file.write("\t".join(texts) + "\n")
            count += 1
        if total not in (None, count):
            raise ValueError(f"{count} items instead of {total}")
