"""Are samples copies of training items?"""

import math

import torch
from torch import Tensor

from raectl import rng
from raectl.metrics.reference import Measured, Reference, rows_at_once


def copied(reference: Reference, features: Tensor) -> dict[str, Measured]:
    """Share of samples that are nearer to a training item than to a held-out one; 0.5 is right, above it is copying.

        copied = mean_j [d(y_j, T) < d(y_j, X)] + [d(y_j, T) = d(y_j, X)] / 2

    with d the squared distance to the nearest item, X the held-out (real) items and T as many items that were trained
    on, chosen at random: where one set is larger, it is cut. If nothing is copied, an item of T is as likely as one of
    X to be the nearest. A model that only draws its N_T training items again has 1/2 + |T| / (2 N_T): the more of them
    are in T, the better copies are seen. It assumes that held-out items are of the same distribution as training
    items; if they differ, as photographs of other places do, samples are nearer to what was trained on without being
    copies.

    Omitted without a training sample: the data are not available, the real items are the training items, or the
    measured ones are training items, or made from the real ones.

    The standard error is that of the hypothesis that nothing is copied. Then which of the 2n items of X and T were
    trained on is a matter of chance, and all divisions into two sets of n are equally likely. With w_u the share of
    samples whose nearest item is u, copied = sum of w_u over T has mean 1/2 and, exactly,

        SE^2 = (2n sum_u w_u^2 - 1) / (4 (2n - 1))

    It counts that samples with one nearest item are won or lost together: p (1 - p) / M, which takes X and T as fixed,
    is too small unless M is small, and 0 for a sampler that repeats one item. Away from 0.5 it is mostly too large, as
    p (1 - p) < 1/4.

    References:
        A Non-Parametric Test to Detect Data-Copying in Generative Models, Meehan, Chaudhuri, Dasgupta, 2020
        (distances to training and held-out items, compared with a rank test).

    Example:
        >>> x, t = torch.arange(8.0)[:, None], torch.arange(8.0)[:, None] + 0.5
        >>> copied(Reference(x, training_sample=lambda: t), t)["copied"].value
        1.0
    """
    y, training = reference.check(features), reference.training_sample()
    if training is None:
        return {}
    n = min(len(reference.features), len(training))
    held_out, held_out_index = _nearest(y, _cut(reference.features, n))
    trained, trained_index = _nearest(y, _cut(reference.check(training), n))
    won = (trained < held_out).double() + (trained == held_out).double() / 2
    shares = torch.zeros(2 * n, dtype=torch.float64)  # w; an equally near item of each set has half of the sample
    shares.index_add_(0, held_out_index, 1 - won).index_add_(0, n + trained_index, won).div_(len(y))
    variance = (2 * n * float(shares.square().sum()) - 1) / (4 * (2 * n - 1))
    return {"copied": Measured(float(won.mean()), math.sqrt(max(variance, 0.0)))}


def _cut(features: Tensor, n: int) -> Tensor:
    """n of the rows, always the same."""
    chosen = rng.permutation(0, "copied", len(features))[:n] if n < len(features) else slice(None)
    return features[chosen]


def _nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest item of b to each of a: (N, D), (M, D) => squared distances (N,) float64, indices (N,).

    The search is in float32, of centred features. The distances are exact: equal items are equally far, bit for bit.
    """
    centre = b.mean(dim=0)
    others = (b - centre).float()
    lengths = others.square().sum(dim=1)
    distances, indices = [], []
    for part in torch.split(a, rows_at_once(len(b))):
        index = torch.addmm(lengths, (part - centre).float(), others.T, alpha=-2).min(dim=1).indices
        indices.append(index)
        distances.append((part.double() - b[index].double()).square().sum(dim=1))
    return torch.cat(distances), torch.cat(indices)
