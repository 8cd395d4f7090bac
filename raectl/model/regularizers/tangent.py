"""Jacobian-vector products J v of a decoder by forward-mode differentiation, differentiable by ordinary backward.

`Trace` records the inputs and outputs of the layers in the forward pass of the loss; `push` maps a tangent through the
layers: linear layers without their bias, and multiplication by the slope of each nonlinearity at the recorded point.
Unlike a gradient of a gradient, this needs no second-order backward and works under autocast. Layers without a rule
use `torch.func.jvp`.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

from raectl.model.architectures.pair import Sum

# (layer, its input (B, ...), its output (B, ...), tangent (b, ...) of the first b items) => tangent (b, ...)
Rule = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


def _conv_transpose(layer: nn.ConvTranspose2d, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    assert not isinstance(layer.padding, str), "transposed convolutions take numbers only"
    return torch.conv_transpose2d(
        t, layer.weight, None, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
    )


class _InverseStd(torch.autograd.Function):
    """s_c = (var_c + eps)^-1/2 of each channel over a batch: (B, C, ...) => (C,).

    ds_c / dx = -s_c^3 (x - mean_c) / n, with n numbers per channel. Six times as fast as `torch.var` on a CPU.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, eps: float) -> Tensor:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if x.device.type == "cpu":
            mean, variance = torch.batch_norm_update_stats(wide, None, None, 0.0)
        else:
            variance, mean = torch.var_mean(wide, dim=[axis for axis in range(x.dim()) if axis != 1], correction=0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, mean, scale)
        return scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        x, mean, scale = ctx.saved_tensors
        shape = (1, -1, *[1] * (x.dim() - 2))
        slope = gradient * scale**3 * (-x.shape[1] / x.numel())
        return torch.addcmul((-mean * slope).view(shape), x, slope.view(shape)).to(x.dtype), None


def _batch_norm(layer: _BatchNorm, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    # The batch's statistics are constants of J, so the tangent does not pass through them; the penalty's gradient does.
    if layer.training or layer.running_var is None:
        scale: Tensor = _InverseStd.apply(x, layer.eps)  # type: ignore[no-untyped-call]
    else:
        scale = (layer.running_var + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight
    return t * scale.to(t.dtype).view(1, -1, *[1] * (t.dim() - 2))


def _jvp(layer: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    with warnings.catch_warnings():  # PyTorch imports torch.jit, which it has deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        tangent: Tensor = torch.func.jvp(layer, (x[: len(t)],), (t.to(x.dtype),))[1]
    return tangent


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: lambda layer, x, y, t: F.linear(t, layer.weight),
    nn.ConvTranspose2d: _conv_transpose,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: lambda layer, x, y, t: t * (y[: len(t)] > 0),
    nn.Sigmoid: lambda layer, x, y, t: t * (y[: len(t)] * (1 - y[: len(t)])),
    **dict.fromkeys((nn.Flatten, nn.Unflatten, nn.ZeroPad2d, nn.Upsample), lambda layer, x, y, t: layer(t)),
}


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested `nn.Sequential`s and `Sum`s, in order; any other module is one layer."""
    if isinstance(module, nn.Sequential | Sum):
        for child in module:
            yield from _layers(child)
    else:
        yield module


class Trace:
    """The inputs and outputs of a decoder's layers in its last forward pass with gradients.

    Arguments:
        decoder: a (nested) `nn.Sequential`, perhaps of `Sum`s, or any module, which is then treated as one layer.

    Example:
        >>> decoder = nn.Linear(2, 3)
        >>> trace = Trace(decoder)
        >>> trace.replay(decoder, torch.zeros(1, 2))
        >>> bool(torch.equal(trace.push(torch.tensor([[1.0, 0.0]]))[0], decoder.weight[:, 0]))
        True
    """

    def __init__(self, decoder: nn.Module) -> None:
        # isinstance: the class of a reparametrized layer is a subclass of the layer's.
        self._rules = {
            layer: next((rule for known, rule in _RULES.items() if isinstance(layer, known)), _jvp)
            for layer in _layers(decoder)
        }
        self._decoder = decoder
        self._seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._hooks = [layer.register_forward_hook(self._record) for layer in self._rules]

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.is_grad_enabled():
            self._seen[layer] = (inputs[0], output)

    def saw(self, x_hat: Tensor) -> bool:
        """Whether `x_hat` is the output of the recorded pass."""
        last = self._seen.get(next(reversed(self._rules)))
        return last is not None and last[1] is x_hat

    def replay(self, decoder: nn.Module, z: Tensor) -> None:
        """Run a forward pass and record it."""
        with torch.enable_grad():
            decoder(z)

    def remove(self) -> None:
        """Remove the hooks from the decoder."""
        for hook in self._hooks:
            hook.remove()

    def push(self, tangent: Tensor) -> Tensor:
        """J v of the first b items: (b, d) => (b, *item_shape). Discards the recorded pass."""
        tangent = self._through(self._decoder, tangent)
        self._seen.clear()
        return tangent

    def _through(self, module: nn.Module, tangent: Tensor) -> Tensor:
        if isinstance(module, Sum):
            first, *others = (self._through(branch, tangent) for branch in module)
            return sum(others, first)
        if isinstance(module, nn.Sequential):
            for child in module:
                tangent = self._through(child, tangent)
            return tangent
        return self._rules[module](module, *self._seen[module], tangent)
