"""`raectl info`."""

from dataclasses import asdict
from typing import Any

from raectl.cli import options as o
from raectl.cli.output import emit, emit_table, number
from raectl.errors import command


def _loss(line: dict[str, Any]) -> str:
    """The loss that epochs are compared by: the training's where nothing is held out."""
    kind, losses = ("validation", line["validation"]) if line["validation"] else ("training", line["train"])
    return f"{kind} loss {number(losses['loss'])}"


def _read(directory: Any) -> tuple[Any, ...]:
    from raectl.checkpoint import sharpened
    from raectl.checkpoint.directory import encoder_digest

    record = directory.read_config()
    arrays, _, digest = directory.read_weights(record)
    sharp = sharpened.read(directory, digest)
    return record, digest, encoder_digest(arrays), sharp and sharp[1]


def _under_way(directory: Any, digest: str) -> str:
    """What is to be said of a second phase that has left no decoder, or not yet."""
    from raectl.storage.arrays import read_header
    from raectl.training.sharpening.state import HINT, SharpeningState

    state = read_header(directory.sharpening, SharpeningState, hint=HINT) if directory.sharpening.exists() else None
    if state is None or state.weights != digest:
        return ""
    if not state.is_done:
        on = command("raectl", "sharpen", directory.path, "--resume")
        return f"; being sharpened, step {state.position.step:,} of {state.options.steps:,} ({on})"
    return "" if state.position.kept else f"; sharpening kept nothing: {state.position.ended}"


def _decoder(directory: Any, sharp: Any, digest: str) -> str:
    """Which decoder makes the items, and how it was made."""
    if sharp is None:
        left = " (a sharpened one of other weights is left aside)" if directory.sharp_decoder.exists() else ""
        return f"plain{left}{_under_way(directory, digest)}"
    error, plain = sharp.held_out["error"], sharp.held_out["plain_error"]
    text = f"sharp, {sharp.step:,} of {sharp.steps:,} steps, held-out error {error:.4g} (plain {plain:.4g}); "
    ended = f"; ended early: {sharp.ended}" if sharp.ended else ""
    return f"{text}latents and densities stay valid{ended}{_under_way(directory, digest)}"


def _ended(config: Any, log: list[dict[str, Any]], best: dict[str, Any] | None) -> str:
    waited = len(log) - best["epoch"] if best else 0
    return ", ended as none was better" if len(log) < config.epochs and 0 < config.patience <= waited else ""


def _origin(ancestor: Any) -> str:
    return f"epoch {ancestor.epoch} of {ancestor.checkpoint}, a model of {ancestor.n:,} items"


def _none_better(record: Any, log: list[dict[str, Any]]) -> str:
    return "none is better than the weights at the start" if log and record.lineage else "none yet"


def info(ckpt: o.CheckpointDir, as_json: o.Json = False, debug: o.Debug = False) -> None:
    """Say what is in a checkpoint directory: model, data, training, fitted densities.

    Example: [bold]raectl info ckpt[/]
    """

    from raectl.checkpoint import densities as fitted
    from raectl.checkpoint.directory import Directory
    from raectl.storage.atomic import recover
    from raectl.storage.records import to_json

    directory = Directory(ckpt)
    recover(directory.path)
    densities = fitted.list_fitted(directory)
    values: dict[str, Any] = {"checkpoint": str(ckpt)}
    rows: dict[str, object] = {"checkpoint": ckpt}
    encoder = None
    if directory.config.exists() or not densities:
        read = directory.read_consistently(lambda: _read(directory))
        record, digest, encoder, sharp = read
        config, data = record.resolved, record.data
        log = directory.read_log()
        best = next((line for line in reversed(log) if line.get("best") is True), None)
        term = f", reconstruction {config.reconstruction['name']}" if config.reconstruction else ""
        weighted = [f"{k} {v['weight']:g}" if "weight" in v else k for k, v in config.reg.items()]
        values |= {**to_json(record), "weights_sha256": digest, "epochs_done": len(log), "best": best}
        values["sharpened"] = asdict(sharp) if sharp else None
        rows |= {
            "model": (f"{config.model}, beta {config.beta:g}" if config.beta is not None else config.model) + term,
            "regularizers": ", ".join(weighted) or "none",
            "architecture": f"{config.arch}, width {config.width}, {config.latent_dim} latent dimensions",
            "data": f"{data.n:,} items of {' x '.join(map(str, data.shape))} from {data.source}",
            "training": f"{len(log)} of {config.epochs} epochs{_ended(config, log, best)}, {config.precision} on "
            f"{config.device}, seed {config.seed}",
            **({"weights at the start": _origin(record.lineage[-1])} if record.lineage else {}),
            "best epoch": f"{best['epoch']}, {_loss(best)}" if best else _none_better(record, log),
            "decoder": _decoder(directory, sharp, digest),
            "weights": f"SHA-256 {digest[:16]}...",
        }
    rows["densities"] = ", ".join(entry.name for entry in densities) or "none"
    emit({**values, "densities": [vars(entry) for entry in densities]}, rows, as_json=as_json)
    if densities and not as_json:
        fits = [
            [
                *(e.name, e.kind, e.seed),
                *(number(e.nats_per_dimension["train"]), number(e.nats_per_dimension["held_out"])),
                e.encoder in (encoder, None),
            ]
            for e in densities
        ]
        emit_table("", ["density", "kind", "seed", "train, nats per dimension", "held out", "of this encoder"], fits)
