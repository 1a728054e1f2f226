# SPDX-License-Identifier: MIT
"""The two-layer ReLU network as a module, and ensembles of freshly initialised students."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .losses import check_option
from .ops._cuda import PRECISIONS
from .ops.two_layer_relu import two_layer_relu
from .weights import Teacher, Weights, as_teacher, as_weights, check_float_dtype, check_sizes

__all__ = ["Teacher", "TwoLayerReLU", "Weights", "as_teacher", "as_weights", "init_students"]


class TwoLayerReLU(nn.Module):
    """f(x) = w2 relu(w1 x + b1) + b2 through the fused op, with torch's own layers and names.

    Parameters
    ----------
    d, m, c : int
        Input dimension, width, outputs.
    bias : bool
        Whether both layers have biases.
    device, dtype : optional
        As for ``nn.Linear``; initialisation is that of ``nn.Linear``.
    precision : {"float32", "tf32", "bf16"}
        Of the products on a GPU; see :func:`lmc_fast.two_layer_relu`.

    Attributes
    ----------
    hidden, output : nn.Linear
        ``hidden.weight`` (m, d), ``hidden.bias`` (m,), ``output.weight`` (c, m),
        ``output.bias`` (c,).

    Examples
    --------
    >>> net = TwoLayerReLU(d=10, m=5)
    >>> net(torch.zeros(3, 10)).shape
    torch.Size([3, 1])
    """

    def __init__(
        self,
        d: int,
        m: int,
        c: int = 1,
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        check_sizes(d=d, m=m, c=c)
        check_option(precision, "precision", tuple(PRECISIONS))
        self.precision = precision
        self.hidden = nn.Linear(d, m, bias, device=device, dtype=dtype)
        self.output = nn.Linear(m, c, bias, device=device, dtype=dtype)
        check_float_dtype(self.hidden.weight, "dtype")

    @property
    def d(self) -> int:
        """Input dimension."""
        return self.hidden.in_features

    @property
    def m(self) -> int:
        """Width."""
        return self.hidden.out_features

    @property
    def c(self) -> int:
        """Outputs."""
        return self.output.out_features

    def forward(self, x: Tensor) -> Tensor:
        """Map x (n, d) to (n, c)."""
        result: Tensor = two_layer_relu(
            x,
            self.hidden.weight,
            self.hidden.bias,
            self.output.weight,
            self.output.bias,
            self.precision,
        )
        return result

    def extra_repr(self) -> str:
        return f"d={self.d}, m={self.m}, c={self.c}, bias={self.hidden.bias is not None}"

    @classmethod
    def from_sequential(cls, sequential: nn.Sequential) -> "TwoLayerReLU":
        """Copy an ``nn.Sequential(Linear, ReLU, Linear)``; either layer may lack its bias."""
        return cls.from_weights(as_weights(sequential, "sequential"))

    @classmethod
    def from_weights(cls, weights: Weights, index: int = 0) -> "TwoLayerReLU":
        """Copy network ``index`` of stacked weights into a module."""
        pairs, m, d, c = weights.sizes
        if not 0 <= index < pairs:
            raise ValueError(f"index must be in 0..{pairs - 1}, the stacked networks; got {index}")
        bias = weights.b1 is not None or weights.b2 is not None
        net = cls(d, m, c, bias, device=weights.w1.device, dtype=weights.w1.dtype)
        with torch.no_grad():
            net.hidden.weight.copy_(weights.w1[index])
            net.output.weight.copy_(weights.w2[index])
            if bias:
                # A layer without a bias computes what it does with a bias of zero.
                for layer, stack in ((net.hidden, weights.b1), (net.output, weights.b2)):
                    layer.bias.copy_(
                        torch.zeros_like(layer.bias) if stack is None else stack[index]
                    )
        return net

    def permuted(self, perm: Tensor) -> "TwoLayerReLU":
        """A copy whose neuron ``i`` is this network's neuron ``perm[i]``: the same function.

        Parameters
        ----------
        perm : int64 Tensor, shape (m,)

        Raises
        ------
        ValueError
            If ``perm`` is not a permutation of 0..m-1.
        """
        return self.from_weights(as_weights(self, "self").permuted(perm))


def init_students(
    seeds: Sequence[int] | Tensor,
    m: int,
    d: int,
    *,
    scale: float = 0.1,
    c: int | None = None,
    w2_scale: float = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Weights:
    """S students without biases, each drawn from its own seed.

    Parameters
    ----------
    seeds : sequence of S int
        A student depends on its seed alone (and on m, d, c and the scales), not on its place.
    m, d : int
        Width and input dimension.
    scale : float
        w1 has entries N(0, scale^2 / d), so that a neuron's norm is about ``scale``.
    c : int, optional
        Without it w2 is one output of ones. With it, w2 (S, c, m) has entries
        N(0, w2_scale^2 / m).
    w2_scale : float
    dtype : torch.dtype
        Numbers are drawn in float64 and rounded to it.

    Returns
    -------
    Weights
        w1 (S, m, d), w2 (S, c, m), no biases.
    """
    check_float_dtype(torch.empty(0, dtype=dtype), "dtype")
    check_sizes(m=m, d=d, c=1 if c is None else c)
    for name, value in (("scale", scale), ("w2_scale", w2_scale)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and at least 0; got {value}")
    if len(seeds) == 0:
        raise ValueError("seeds must hold at least one seed; got none")
    w1, w2 = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(int(seed))
        w1.append(torch.randn(m, d, generator=generator, dtype=torch.float64) * scale / d**0.5)
        if c is None:
            w2.append(torch.ones(1, m, dtype=torch.float64))
        else:
            normal = torch.randn(c, m, generator=generator, dtype=torch.float64)
            w2.append(normal * w2_scale / m**0.5)
    return Weights(torch.stack(w1).to(dtype), None, torch.stack(w2).to(dtype), None)
