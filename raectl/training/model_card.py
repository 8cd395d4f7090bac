"""The model card: README.md of a checkpoint directory."""

from collections.abc import Sequence

from raectl.checkpoint.directory import Ancestor
from raectl.checkpoint.summary import DataSummary
from raectl.config import Config, text_of
from raectl.modalities.base import modality_of
from raectl.model.reconstructions import for_modality
from raectl.training.state import Position

_TEXT = """\
# {model}: an autoencoder of {n:,} {modality}

| | |
|---|---|
| model | {model}, beta = {beta:g} |
| reconstruction term | {term} |
| regularizers of the decoder | {regularizers} |
| architecture | {arch}, width {width}, {latent_dim} latent dimensions |
| data | {n:,} items of shape {shape}, SHA-256 `{fingerprint}` |
| held out for validation | {held_out:,} items |
| training | {epoch} of {epochs} epochs, batches of {batch_size}, learning rate {lr:g}, {precision}, seed {seed} |
| optimizer | {optimizer}, average of the weights {average:g}, augmentation {augment} |
{lineage}| weights for use | epoch {best_epoch}, {best_loss} |

Every option is in `config.json`, every epoch's terms in `log.jsonl`, pictures of the training in `samples/`.

    raectl info DIR
    raectl fit-density DIR
    raectl sample DIR -n 64 -o samples{suffix}

Method: P. Ghosh, M. S. M. Sajjadi, A. Vergari, M. Black, B. Schölkopf, "From Variational to Deterministic
Autoencoders", ICLR 2020. What the model may be used for depends on its data, of which this card knows only the above.
"""


def text(config: Config, data: DataSummary, position: Position, held_out: int, lineage: Sequence[Ancestor] = ()) -> str:
    """The card's Markdown for a run at some position. It holds no path, since checkpoints are passed on."""
    modality = modality_of(data.modality, data.options)
    return _TEXT.format(
        **vars(config),
        n=data.n,
        suffix=modality.writer.suffixes[0],
        term=text_of(**for_modality(config.reconstruction, modality)),
        modality=data.modality,
        regularizers=" and ".join(text_of(name, **given) for name, given in config.reg.items()) or "none",
        shape=" x ".join(map(str, data.shape)),
        fingerprint=data.fingerprint,
        held_out=held_out,
        epoch=position.epoch,
        best_epoch=position.best_epoch,
        lineage="".join(
            f"| weights at the start | of a model of {a.n:,} {data.modality}, SHA-256 `{a.weights}` |\n"
            for a in lineage[-1:]
        ),
        best_loss=_best_loss(config, position),
    )


def _best_loss(config: Config, position: Position) -> str:
    if position.best_loss is not None:
        return f"{'validation' if config.val_fraction else 'training'} loss {position.best_loss:.4f}"
    return "the last, not the best: the reconstruction term was changing" if position.epoch else "no whole epoch yet"
