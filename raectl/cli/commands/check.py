"""`raectl check`."""

from collections.abc import Sequence
from typing import Any

import typer

from raectl.cli import options as o
from raectl.cli.output import complain, emit, emit_table, size
from raectl.config import SourceOptions

_SHOWN = 20  # bad items listed on a terminal; --json has all
_FEW = 5  # equal or constant items listed


@o.flags(SourceOptions, after="source")
def check(source: o.SourceArgument, as_json: o.Json = False, debug: o.Debug = False, **flags: Any) -> None:
    """Decode a source's items and report: what they become, which are bad, equal or of one value.

    Fails if too many are bad to train on. A training on the source then decodes nothing again.

    Example: [bold]raectl check ./imgs[/]
    """
    from raectl.cli.terminal import TerminalProgress
    from raectl.data import DataOptions
    from raectl.data.checking import check_source

    options = DataOptions(**{name: value for name, value in flags.items() if value is not None})
    with TerminalProgress() as progress:
        checked = check_source(source, options, progress)
        for note in checked.notes:
            progress.note(note)
    emit(_values(checked, source), _rows(checked, source), as_json=as_json)
    if not as_json:
        _lists(checked)
    if refused := checked.too_many:
        all_bad = len(refused.bad) == refused.total
        hint = refused.hint if all_bad else "repair or remove them, or allow more by --max-bad"
        complain(refused.message if as_json else refused.summary, hint)
        raise typer.Exit(1)


def _lists(checked: Any) -> None:
    """What to look at: bad items, and of images those that equal another or are of one value."""
    from raectl.data.limits import shown

    _list("bad item", "why", checked.bad, _SHOWN)
    if checked.dataset and _are_images(checked.dataset):
        named = checked.dataset.names or [*map(str, range(len(checked.dataset)))]
        equal = [(named[index], shown(named[first])) for first, *others in checked.duplicates for index in others]
        _list("equal item", "to", equal, _FEW)
        _list("constant item", "", [(named[index], "of one value") for index in checked.constant], _FEW)


def _are_images(dataset: Any) -> bool:
    """Whether items have a height and a width; of the others, being equal or of one value means little."""
    return bool(dataset.items.ndim > 2)


def _list(item: str, what: str, pairs: Sequence[tuple[str, str]], most: int) -> None:
    """A table of the first items, and what is said of each."""
    from raectl.data.limits import shown

    rows: list[list[object]] = [[shown(name), said] for name, said in pairs[:most]]
    if len(pairs) > most:
        rows.append([f"and {len(pairs) - most:,} more", "--json has all"])
    if rows:
        emit_table("", [item, what], rows)


def _values(checked: Any, source: str) -> dict[str, Any]:
    from raectl.data.checking import class_counts

    dataset, refused = checked.dataset, checked.too_many
    values: dict[str, Any] = {
        "source": dataset.source if dataset else source,
        "ok": refused is None,
        "error": refused.message if refused else None,
        "total": checked.total,
        "items": len(dataset) if dataset else 0,
        "bad": [{"name": name, "reason": reason} for name, reason in checked.bad],
    }
    if dataset:
        named = dataset.names or range(len(dataset))
        values |= {
            "found": dataset.found,
            "shape": dataset.items.shape[1:],
            "bytes": dataset.items.nbytes,
            "range": dataset.options.range,
            "levels": checked.levels,
            "classes": class_counts(dataset),
            "duplicates": [[named[index] for index in group] for group in checked.duplicates],
            "constant": [named[index] for index in checked.constant],
            "fingerprint": dataset.fingerprint,
            "notes": dataset.notes,
        }
    return values


def _rows(checked: Any, source: str) -> dict[str, object]:
    from raectl.data.checking import class_counts

    dataset = checked.dataset
    rows: dict[str, object] = {
        "source": dataset.source if dataset else source,
        "items": f"{len(dataset) if dataset else 0:,} of {checked.total:,}",
        "bad": f"{len(checked.bad):,}",
    }
    if dataset:
        counts = class_counts(dataset)
        surplus = sum(len(group) - 1 for group in checked.duplicates)
        rows |= _found(dataset.found) | {
            "become": f"{' x '.join(map(str, dataset.items.shape[1:]))} {dataset.sizes}",
            "values": _told_values(checked),
            "order": "by name, character by character: 10.png before 2.png" if dataset.names else "as stored",
            "packed": size(dataset.items.nbytes),
            "classes": f"{len(counts)}, of {min(counts.values()):,} to {max(counts.values()):,}" if counts else "none",
            "duplicates": f"{surplus:,} equal another once packed",
            "constant": f"{len(checked.constant):,} of one value",
            "fingerprint": f"SHA-256 {dataset.fingerprint[:16]}...",
        }
        if not _are_images(dataset):
            del rows["constant"], rows["values"], rows["order"]
            if not counts:
                del rows["classes"]
    return rows


def _found(found: Any) -> dict[str, object]:
    """What the source holds, before it is converted."""
    from raectl.data.limits import shown

    def listed(counts: dict[str, int]) -> str:
        return ", ".join(f"{count:,} {shown(suffix or 'no suffix')}" for suffix, count in counts.items())

    if "shape" in found:
        return {"array": f"{found['type']}, {' x '.join(map(str, found['shape']))}"}
    if "suffixes" not in found:
        return {"blank lines": f"{len(found['blank_lines']):,}"} if found.get("blank_lines") else {}
    bands = found.get("bands", {})
    images = found["grey"] + found["colour"] + sum(bands.values())
    channels = [f"{count:,} of {number}" for number, count in bands.items()]
    channels += [f"{found['grey']:,} grey", f"{found['colour']:,} in colour"] if not bands else []
    more = found["frames"] - images
    frames = f"{found['frames']:,}, of which {more:,} are left out: of each image the first is taken"
    return {
        "files": listed(found["suffixes"]) + (f"; left out {listed(found['others'])}" if found["others"] else ""),
        "frames": frames if more else "one an image",
        "channels": ", ".join(channels),
    }


def _told_values(checked: Any) -> str:
    """What became of the values: their range, and how much of the stored ones the items fill."""
    from raectl.data.values import parse, top_of

    options = checked.dataset.options
    found = options.range
    ranges = [f"{kind} from {low:g} to {high:g}" for kind, (low, high) in (parse(found) if found else {}).items()]
    low, high = checked.levels
    return f"{' and '.join(ranges) or 'bytes'}; stored from {low} to {high} of 0 to {top_of(options.bits or 8)}"
