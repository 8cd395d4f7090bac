"""A model of pythae 0.1.2 on raectl's nets, initial weights, data and split: train, fit its mixture, write samples.

Runs in pythae's own virtual environment with this repository on PYTHONPATH; README.md beside it has the commands.
The encoder and decoder are raectl's `conv32`; objective, trainer, choice of the epoch and Gaussian mixture are
pythae's, with the weights of its reproduction scripts (examples/scripts/reproducibility) where it has any.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pythae.models as peer
import torch
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.samplers import GaussianMixtureSampler, GaussianMixtureSamplerConfig
from pythae.trainers import BaseTrainerConfig, CoupledOptimizerTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from raectl import Config, DataOptions, open_dataset
from raectl.data import split
from raectl.modalities.images import Images
from raectl.model.build import build

SHAPE, LATENT_DIM, WIDTH = (1, 32, 32), 16, 16
BATCH, LR, VAL_FRACTION = 100, 1e-3, 0.16666667
BLOCK = 500  # images decoded at a time
DATA = DataOptions(image_size=32, fit="pad", background="black")
_COMMON: dict[str, Any] = {"input_dim": SHAPE, "latent_dim": LATENT_DIM}

# raectl's model for the encoder's head, pythae's model, its configuration
Row = tuple[str, Callable[..., peer.BaseAE], Any]
MODELS: dict[str, Row] = {
    "vae": ("vae", peer.VAE, peer.VAEConfig(**_COMMON, reconstruction_loss="mse")),
    "rae-l2": ("rae", peer.RAE_L2, peer.RAE_L2_Config(**_COMMON, embedding_weight=1e-6, reg_weight=1e-3)),
    "rae-gp": ("rae", peer.RAE_GP, peer.RAE_GP_Config(**_COMMON, embedding_weight=1e-3, reg_weight=1e-6)),
}


class Encoder(BaseEncoder):
    """raectl's encoder and code as pythae's encoder."""

    def __init__(self, encoder: nn.Module, code: nn.Module) -> None:
        super().__init__()
        self.encoder, self.code = encoder, code

    def forward(self, x: Tensor) -> ModelOutput:
        """(B, C, H, W) => the mean, (B, d), and the log variance where there is one."""
        codes = self.code(self.encoder(x))
        if codes.log_sigma is None:
            return ModelOutput(embedding=codes.mu)
        return ModelOutput(embedding=codes.mu, log_covariance=2 * codes.log_sigma)


class Decoder(BaseDecoder):
    """raectl's decoder as pythae's."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, z: Tensor) -> ModelOutput:
        """(B, d) => (B, C, H, W)."""
        return ModelOutput(reconstruction=self.decoder(z))


class Log(TrainingCallback):
    """Losses of every epoch, and the time of its training steps, by the clock and of the processor."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_epoch_begin(self, training_config: BaseTrainerConfig, **kwargs: Any) -> None:
        """Start the clocks."""
        self.began = time.monotonic(), time.process_time()

    def on_eval_step_begin(self, training_config: BaseTrainerConfig, **kwargs: Any) -> None:
        """Stop them: the epoch's validation begins."""
        self.took = time.monotonic() - self.began[0], time.process_time() - self.began[1]

    def on_log(self, training_config: BaseTrainerConfig, logs: dict[str, float], **kwargs: Any) -> None:
        """Keep a line an epoch."""
        seconds, cpu_seconds = (round(took, 3) for took in self.took)
        self.epochs.append({"seconds": seconds, "cpu_seconds": cpu_seconds, **logs})
        print(json.dumps(self.epochs[-1]), flush=True)


def make(name: str, seed: int) -> peer.BaseAE:
    """pythae's model around raectl's nets, with the weights that raectl starts from at this seed."""
    head, model, config = MODELS[name]
    nets, _ = build(Config(model=head, latent_dim=LATENT_DIM, arch="conv32", width=WIDTH, seed=seed), SHAPE)
    return model(config, encoder=Encoder(nets.encoder, nets.code), decoder=Decoder(nets.decoder))


def training(name: str, epochs: int, seed: int, out: Path) -> BaseTrainerConfig:
    """pythae's trainer: Adam without a schedule; RAE-L2's has an optimizer for each half, of the same rate."""
    options: dict[str, Any] = {
        "output_dir": str(out.with_suffix("")),
        "per_device_train_batch_size": BATCH,
        "per_device_eval_batch_size": BATCH,
        "num_epochs": epochs,
        "seed": seed,
        "no_cuda": True,
    }
    if name == "rae-l2":
        return CoupledOptimizerTrainerConfig(**options, encoder_learning_rate=LR, decoder_learning_rate=LR)
    return BaseTrainerConfig(**options, learning_rate=LR)


@torch.no_grad()
def reconstruct(model: peer.BaseAE, x: Tensor) -> np.ndarray:
    """The decoded means: (N, C, H, W) => (N, H, W, C) uint8."""
    blocks = [Images().to_items(model.predict(block).recon_x) for block in x.split(BLOCK)]
    return np.concatenate(blocks)


def main(arguments: argparse.Namespace) -> None:
    """Train, fit, sample, and write OUT.npz and OUT.json."""
    images = Images()
    items = open_dataset(arguments.data, DATA).items[: arguments.limit]
    x, x_test = (
        images.to_tensor(torch.from_numpy(np.array(given)))
        for given in (items, open_dataset(arguments.test, DATA).items[: arguments.limit])
    )
    train, val = (x[rows].contiguous() for rows in split(len(items), VAL_FRACTION, arguments.seed))
    log = Log()
    pipeline = TrainingPipeline(
        make(arguments.model, arguments.seed),
        training(arguments.model, arguments.epochs, arguments.seed, arguments.out),
    )
    pipeline(train, val, callbacks=[log])
    model = pipeline.trainer._best_model.eval()  # the one that pythae saves: of the best validation loss

    np.random.seed(arguments.seed)  # the mixture draws from the global state
    began = time.monotonic()
    sampler = GaussianMixtureSampler(model, GaussianMixtureSamplerConfig(n_components=10))
    sampler.fit(train)
    fitted = time.monotonic() - began
    samples = images.to_items(sampler.sample(arguments.samples, batch_size=BLOCK))
    np.savez_compressed(arguments.out, images=samples, reconstructions=reconstruct(model, x_test))
    record = {
        "model": arguments.model,
        "pythae": "0.1.2",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "seed": arguments.seed,
        "train": len(train),
        "validation": len(val),
        "epochs": log.epochs,
        "seconds": round(sum(epoch["seconds"] for epoch in log.epochs), 1),
        "cpu_seconds": round(sum(epoch["cpu_seconds"] for epoch in log.epochs), 1),
        "fit_seconds": round(fitted, 1),
        "options": {name: getattr(model.model_config, name) for name in vars(model.model_config) if "weight" in name},
    }
    arguments.out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--data", required=True, help="folder of MNIST's IDX files, or its file of training images")
    parser.add_argument("--test", required=True, help="MNIST's file of test images")
    parser.add_argument("--out", type=Path, required=True, help="OUT.npz; OUT.json lies beside it")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="take so many images only, to try the script")
    main(parser.parse_args())
