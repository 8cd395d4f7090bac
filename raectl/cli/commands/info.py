"""`raectl info`."""

from typing import Any

from raectl.cli import options as o


def _loss(line: dict[str, Any]) -> float:
    return float((line["validation"] or line["train"])["loss"])


def _read(directory: Any) -> tuple[Any, ...]:
    config, data, record = directory.read_config()
    return config, data, record, directory.read_digest(record)


def info(ckpt: o.CheckpointDir, as_json: o.Json = False, debug: o.Debug = False) -> None:
    """Say what is in a checkpoint directory: model, data, training, fitted densities.

    Example: [bold]raectl info ckpt[/]
    """
    from raectl.checkpoint import densities as fitted
    from raectl.checkpoint.directory import Directory
    from raectl.cli.output import emit, emit_table, number
    from raectl.storage.atomic import recover

    directory = Directory(ckpt)
    recover(directory.path)
    densities = [vars(entry) for entry in fitted.list_fitted(directory)]
    values: dict[str, Any] = {"checkpoint": str(ckpt)}
    rows: dict[str, object] = {"checkpoint": ckpt}
    digest = None
    if directory.config.exists() or not densities:
        config, data, record, digest = directory.read_consistently(lambda: _read(directory))
        log = directory.read_log()
        best = min(log, key=_loss, default=None)
        weighted = [f"{k} {v['weight']:g}" if "weight" in v else k for k, v in config.reg.items()]
        values |= {**record, "weights_sha256": digest, "epochs_done": len(log), "best": best}
        rows |= {
            "model": f"{config.model}, beta {config.beta:g}" if config.beta is not None else config.model,
            "regularizers": ", ".join(weighted) or "none",
            "architecture": f"{config.arch}, width {config.width}, {config.latent_dim} latent dimensions",
            "data": f"{data.n:,} items of {' x '.join(map(str, data.shape))} from {data.source}",
            "training": f"{len(log)} of {config.epochs} epochs, {config.precision} on {config.device}, "
            f"seed {config.seed}",
            "best epoch": f"{best['epoch']}, validation loss {number(_loss(best))}" if best else "-",
            "weights": f"SHA-256 {digest[:16]}...",
        }
    rows["densities"] = ", ".join(entry["name"] for entry in densities) or "none"
    emit({**values, "densities": densities}, rows, as_json=as_json)
    if densities and not as_json:
        fits = [
            [
                d["name"],
                d["kind"],
                d["seed"],
                *map(number, d["nats_per_dimension"].values()),
                d["weights"] in (digest, None),
            ]
            for d in densities
        ]
        emit_table("", ["density", "kind", "seed", "train, nats per dimension", "held out", "of these weights"], fits)
