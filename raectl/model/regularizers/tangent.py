"""Carry a tangent through a decoder beside its value: J v in one pass, differentiable by one ordinary backward.

The value's pass has been made already, by the objective; a `Trace` remembers what the layers saw in it, and `push`
runs only the tangent, of all items or of the first few: linear layers without their bias, and each nonlinearity's slope
at the remembered point.
Compared with a gradient of a gradient it needs no second-order backward, keeps any memory format, and works under
autocast. A layer with no rule here goes through `torch.func.jvp`, so any decoder of pointwise-independent layers does.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.modules.batchnorm import _BatchNorm

# (layer, its input (B, ...), its output (B, ...), tangent (b, ...) of the first b items) => tangent (b, ...)
Rule = Callable[[Any, Tensor, Tensor, Tensor], Tensor]


def _linear(layer: nn.Linear, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    return F.linear(t, layer.weight)


def _conv_transpose(layer: nn.ConvTranspose2d, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    assert not isinstance(layer.padding, str), "transposed convolutions take numbers only"
    return torch.conv_transpose2d(
        t, layer.weight, None, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation
    )


class _InverseStd(torch.autograd.Function):
    """s_c = (var_c + eps)^-1/2 of each channel over a batch: (B, C, ...) => (C,).

    ds_c / dx = -s_c^3 (x - mean_c) / n, with n numbers a channel. On a CPU, `torch.var` and its gradient would take
    six times as long, most of the penalty's time.
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
    # J is the Jacobian of one item with the batch's statistics held: no tangent goes through them. They are not
    # detached, because the weights move them: the gradient is that of the value.
    if layer.training or layer.running_var is None:
        scale: Tensor = _InverseStd.apply(x, layer.eps)  # type: ignore[no-untyped-call]
    else:
        scale = (layer.running_var + layer.eps).rsqrt()
    if layer.affine:
        scale = scale * layer.weight
    return t * scale.to(t.dtype).view(1, -1, *[1] * (t.dim() - 2))


def _relu(layer: nn.ReLU, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    return t * (y[: len(t)] > 0)


def _sigmoid(layer: nn.Sigmoid, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    y = y[: len(t)]
    return t * (y * (1 - y))


def _move(layer: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    return layer(t)


def _any(layer: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, t: Tensor) -> Tensor:
    with warnings.catch_warnings():  # PyTorch's own rules still import torch.jit, which it has deprecated
        warnings.simplefilter("ignore", DeprecationWarning)
        tangent: Tensor = torch.func.jvp(layer, (x[: len(t)],), (t.to(x.dtype),))[1]
    return tangent


_RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.ConvTranspose2d: _conv_transpose,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.ReLU: _relu,
    nn.Sigmoid: _sigmoid,
    nn.Flatten: _move,
    nn.Unflatten: _move,
    nn.ZeroPad2d: _move,
}


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The layers of nested `nn.Sequential`s in their order; anything else is one layer."""
    if isinstance(module, nn.Sequential):
        for child in module:
            yield from _layers(child)
    else:
        yield module


def _rule(layer: nn.Module) -> Rule:
    # A reparametrized layer's class is made on the fly, a subclass of the layer's own.
    for known, rule in _RULES.items():
        if isinstance(layer, known):
            return rule
    return _any


class Trace:
    """What the layers of a decoder saw in its last forward pass with gradients.

    Arguments:
        decoder: an `nn.Sequential`, nested or not, or any module, which then counts as one layer.

    Example:
        >>> decoder = nn.Linear(2, 3)
        >>> trace = Trace(decoder)
        >>> trace.replay(decoder, torch.zeros(1, 2))
        >>> bool(torch.equal(trace.push(torch.tensor([[1.0, 0.0]]))[0], decoder.weight[:, 0]))
        True
    """

    def __init__(self, decoder: nn.Module) -> None:
        self._steps = [(layer, _rule(layer)) for layer in _layers(decoder)]
        self._seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        self._hooks = [layer.register_forward_hook(self._record) for layer, _ in self._steps]

    def _record(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if torch.is_grad_enabled():
            self._seen[layer] = (inputs[0], output)

    def saw(self, x_hat: Tensor) -> bool:
        """Whether `x_hat` is the output of the pass that is remembered."""
        last = self._seen.get(self._steps[-1][0])
        return last is not None and last[1] is x_hat

    def replay(self, decoder: nn.Module, z: Tensor) -> None:
        """Make the pass again, to remember it."""
        with torch.enable_grad():
            decoder(z)

    def remove(self) -> None:
        """Leave the decoder as it was."""
        for hook in self._hooks:
            hook.remove()

    def push(self, tangent: Tensor) -> Tensor:
        """J v of the first b items, (b, d) => (b, *item_shape); and forget the pass, whose activations are large."""
        for layer, rule in self._steps:
            tangent = rule(layer, *self._seen[layer], tangent)
        self._seen.clear()
        return tangent
