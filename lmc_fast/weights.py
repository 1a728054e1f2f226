# SPDX-License-Identifier: MIT
"""Stacked weights of two-layer ReLU networks, and the one place that reads networks into them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

FLOAT_DTYPES = (torch.float32, torch.float64)

# The names under which the four arrays are looked for in a state_dict, in this order.
_STATE_KEYS = (
    ("hidden.weight", "hidden.bias", "output.weight", "output.bias"),
    ("0.weight", "0.bias", "2.weight", "2.bias"),
    ("w1", "b1", "w2", "b2"),
)


class Weights(NamedTuple):
    """P networks f(x) = w2 relu(w1 x + b1) + b2 of one shape, stacked.

    Attributes
    ----------
    w1 : Tensor, shape (P, m, d)
    b1 : Tensor, shape (P, m), or None
    w2 : Tensor, shape (P, c, m)
    b2 : Tensor, shape (P, c), or None
    """

    w1: Tensor
    b1: Tensor | None
    w2: Tensor
    b2: Tensor | None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """(P, m, d, c)."""
        pairs, m, d = self.w1.shape
        return pairs, m, d, self.w2.shape[1]

    def alone(self, p: int) -> "Weights":
        """Network p in memory of its own, not stacked: (m, d), (m,), (c, m), (c,).

        Products then do not depend, to the last bit, on where in the stack it lay.
        """
        b1, b2 = (None if t is None else t[p].clone() for t in (self.b1, self.b2))
        return Weights(self.w1[p].clone(), b1, self.w2[p].clone(), b2)

    def permuted(self, perm: Tensor) -> "Weights":
        """The same functions with neuron ``perm[i]`` moved to place ``i``.

        Parameters
        ----------
        perm : int64 Tensor, shape (P, m) or (m,)
            A permutation of 0..m-1 per network, or one for all of them.
        """
        pairs, m, d, c = self.sizes
        perm = as_permutation(perm, pairs, m).to(self.w1.device)
        return Weights(
            self.w1.gather(1, perm[:, :, None].expand(pairs, m, d)),
            None if self.b1 is None else self.b1.gather(1, perm),
            self.w2.gather(2, perm[:, None, :].expand(pairs, c, m)),
            self.b2,
        )

    def at(self, other: "Weights", alpha: float) -> "Weights":
        """(1 - alpha) self + alpha other; exactly ``self`` at 0 and exactly ``other`` at 1."""
        if not 0.0 <= alpha <= 1.0:
            raise ValueError(f"alpha must lie in [0, 1]; got {alpha!r}")
        if alpha == 0.0:
            return self
        if alpha == 1.0:
            return other

        def blend(start: Tensor | None, end: Tensor | None) -> Tensor | None:
            if start is None and end is None:
                return None
            # A network without biases is the same function as one whose biases are zero.
            start = torch.zeros_like(end) if start is None else start  # type: ignore[arg-type]
            end = torch.zeros_like(start) if end is None else end
            return (1.0 - alpha) * start + alpha * end

        w1, w2 = blend(self.w1, other.w1), blend(self.w2, other.w2)
        assert w1 is not None
        assert w2 is not None
        return Weights(w1, blend(self.b1, other.b1), w2, blend(self.b2, other.b2))


class Teacher(NamedTuple):
    """f*(x) = v2 relu(v1 x): v1 (M, d), v2 (c, M)."""

    v1: Tensor
    v2: Tensor

    def targets(self, x: Tensor) -> Tensor:
        """f*(x) for x (n, d), computed in float64 and given in x's dtype: (n, c)."""
        hidden = (x.double() @ self.v1.to(x.device).T).relu()
        return (hidden @ self.v2.to(x.device).T).to(x.dtype)


def as_permutation(perm: Tensor, pairs: int, m: int) -> Tensor:
    """Check ``perm`` and return it as an int64 tensor of shape (pairs, m)."""
    perm = torch.as_tensor(perm)
    if perm.is_floating_point() or perm.is_complex() or perm.dtype == torch.bool:
        raise TypeError(f"perm must hold integers (int64); got {perm.dtype}")
    if tuple(perm.shape) not in ((m,), (pairs, m)):
        raise ValueError(
            f"perm must be (m,) = ({m},) or (P, m) = ({pairs}, {m}); got {tuple(perm.shape)}"
        )
    perm = perm.to(torch.int64)
    in_order = torch.arange(m, device=perm.device).expand(perm.shape)
    if not torch.equal(perm.sort(dim=-1).values, in_order):
        raise ValueError(f"perm must hold each of 0..{m - 1} once per network; it does not")
    return perm.expand(pairs, m)


def as_weights(network: object, name: str = "network", *, allow_empty: bool = False) -> Weights:
    """Read one network, or P stacked ones, into checked :class:`Weights`.

    Parameters
    ----------
    network : TwoLayerReLU, nn.Sequential, Mapping, Tensor, tuple or Weights
        A module ``TwoLayerReLU`` or ``nn.Sequential(Linear, ReLU, Linear)``; a state_dict of
        either (or with keys w1, b1, w2, b2); a tensor w1 (m, d) or (P, m, d), whose w2 is taken
        as ones with one output; a tuple (w1, w2) or (w1, b1, w2, b2); or Weights.
        Gradients flow through tensors and tuples; modules are read detached.
    name : str
        What error messages call it.
    allow_empty : bool
        Whether there may be no networks (P = 0), or networks without neurons (m = 0).

    Returns
    -------
    Weights
        Always stacked: a single network gets P = 1.

    Raises
    ------
    TypeError
        A dtype other than float32 or float64, dtypes that differ, or an unknown kind of network.
    ValueError
        Shapes that do not fit, an empty array, NaN or infinity, or devices that differ.
    """
    w1, b1, w2, b2 = _arrays(network, name)
    w1 = _float_tensor(w1, f"{name}.w1")
    if w1.ndim not in (2, 3) or (w1.numel() == 0 and not allow_empty):
        raise ValueError(
            f"{name}.w1 must be (m, d) or (P, m, d) with no size of 0; got {tuple(w1.shape)}"
        )
    w1 = w1 if w1.ndim == 3 else w1[None]
    pairs, m, _ = w1.shape
    ones = w2 is None
    w2 = w1.new_ones((pairs, 1, m)) if w2 is None else _float_tensor(w2, f"{name}.w2")
    w2 = _stacked(w2, f"{name}.w2", "(c, m)", (None, m), pairs)
    c = w2.shape[1]
    if b1 is not None:
        b1 = _stacked(_float_tensor(b1, f"{name}.b1"), f"{name}.b1", "(m,)", (m,), pairs)
    if b2 is not None:
        b2 = _stacked(_float_tensor(b2, f"{name}.b2"), f"{name}.b2", "(c,)", (c,), pairs)
    for part, array in (("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2)):
        if array is None:
            continue
        if array.dtype != w1.dtype:
            raise TypeError(
                f"{name}.{part} must have the dtype of w1, {w1.dtype}; got "
                f"{array.dtype}. Convert one with .to(dtype)"
            )
        if array.device != w1.device:
            raise ValueError(
                f"{name}.{part} must be on the device of w1, {w1.device}; got "
                f"{array.device}. Move one with .to(device)"
            )
        if array.is_meta:
            raise ValueError(f"{name}.{part} must hold numbers; got a tensor on the meta device")
        if not (part == "w2" and ones) and not all_finite(array):
            raise ValueError(
                f"{name}.{part} must be finite; it holds NaN or infinity (a diverged network?)"
            )
    return Weights(w1, b1, w2, b2)


def as_teacher(teacher: object, d: int, c: int | None = None, name: str = "teacher") -> Teacher:
    """Read one bias-free network as a :class:`Teacher`, in float64 and detached.

    Parameters
    ----------
    teacher : anything :func:`as_weights` reads
    d : int
        The input dimension it must have.
    c : int, optional
        The number of outputs it must have.
    """
    if isinstance(teacher, Teacher):
        teacher = (teacher.v1, teacher.v2)
    weights = as_weights(teacher, name)
    pairs, _, teacher_d, teacher_c = weights.sizes
    if pairs != 1:
        raise ValueError(f"{name} must be one network; got {pairs} stacked. Pass one of them")
    check_no_biases(weights, name, "Build it with bias=False")
    if teacher_d != d:
        raise ValueError(f"{name} must take inputs of dimension d = {d}; got {teacher_d}")
    if c is not None and teacher_c != c:
        raise ValueError(f"{name} must have c = {c} outputs like the student; got {teacher_c}")
    return Teacher(weights.w1[0].detach().double(), weights.w2[0].detach().double())


# What a network is told apart by: of each array the shape, the dtype and the bytes, or None.
Contents = tuple[tuple[torch.Size, torch.dtype, bytes] | None, ...]


def contents(network: object, name: str, most: int) -> Contents | None:
    """What a network's arrays hold; None unless all are ordinary CPU tensors of ``most`` bytes."""
    if isinstance(network, Teacher):
        network = (network.v1, network.v2)
    parts: list[tuple[torch.Size, torch.dtype, bytes] | None] = []
    for t in _arrays(network, name):
        if t is None:
            parts.append(None)
            continue
        if type(t) not in (Tensor, nn.Parameter) or t.device.type != "cpu" or t.nbytes > most:
            return None
        if t.dtype not in FLOAT_DTYPES or t.layout != torch.strided or t.is_neg():
            return None
        parts.append((t.shape, t.dtype, t.detach().numpy().tobytes()))
    return tuple(parts)


def of_contents(parts: Contents) -> tuple[Tensor | None, ...]:
    """A network's arrays again, in memory of their own."""
    return tuple(
        None if p is None else torch.frombuffer(bytearray(p[2]), dtype=p[1]).reshape(p[0])
        for p in parts
    )


def check_no_biases(weights: Weights, name: str, remedy: str) -> None:
    """Raise unless every bias is absent or zero; the closed forms have none."""
    for part, bias in (("b1", weights.b1), ("b2", weights.b2)):
        if bias is not None and bool((bias != 0).any()):
            raise ValueError(f"{name} must have no biases; got a {part} that is not zero. {remedy}")


def has_biases(weights: Weights) -> bool:
    """Whether any bias is not zero."""
    return any(bias is not None and bool((bias != 0).any()) for bias in (weights.b1, weights.b2))


def check_same_architecture(a: Weights, b: Weights) -> None:
    """Raise unless a and b can be averaged: same P, m, d, c, dtype and device."""
    for letter, meaning, size_a, size_b in zip(
        "Pmdc", ("pairs", "width", "input dimension", "outputs"), a.sizes, b.sizes, strict=True
    ):
        if size_a != size_b:
            raise ValueError(
                f"a and b must have the same {meaning} {letter}; got {size_a} and "
                f"{size_b}. Only networks of one shape have a segment between them"
            )
    if a.w1.dtype != b.w1.dtype:
        raise TypeError(
            f"a and b must have the same dtype; got {a.w1.dtype} and {b.w1.dtype}. "
            "Convert one with .to(dtype)"
        )
    if a.w1.device != b.w1.device:
        raise ValueError(
            f"a and b must be on the same device; got {a.w1.device} and "
            f"{b.w1.device}. Move one with .to(device)"
        )


def check_float_dtype(tensor: Tensor, name: str) -> None:
    """Raise TypeError unless ``tensor`` is float32 or float64."""
    if tensor.dtype not in FLOAT_DTYPES:
        raise TypeError(
            f"{name} must be float32 or float64; got {tensor.dtype}. "
            f"Convert it with {name}.float() or {name}.double()"
        )


def can_read(tensor: Tensor) -> bool:
    """Whether values can be looked at: not while the device's work is only recorded in a graph."""
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def all_finite(tensor: Tensor) -> bool:
    """Whether no element is NaN or infinite: one pass, twenty times as fast as torch.isfinite.

    True, too, where values cannot be looked at.
    """
    tensor = tensor.detach()
    if tensor.numel() == 0 or not can_read(tensor) or math.isfinite(tensor.sum()):
        return True
    low, high = torch.aminmax(tensor)  # the sum may have overflowed; both NaN if any element is
    return math.isfinite(low) and math.isfinite(high)


def check_sizes(**sizes: int) -> None:
    """Raise ValueError unless every size is at least 1."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}")


def _float_tensor(array: object, name: str) -> Tensor:
    if not isinstance(array, Tensor):
        raise TypeError(
            f"{name} must be a torch tensor; got {type(array).__name__}. "
            "Convert it with torch.as_tensor"
        )
    check_float_dtype(array, name)
    return array


def _stacked(
    array: Tensor, name: str, letters: str, shape: tuple[int | None, ...], pairs: int
) -> Tensor:
    """``array`` with its leading P, which may be missing."""

    def fits(sizes: Sequence[int]) -> bool:
        return len(sizes) == len(shape) and all(
            size == want or (want is None and size > 0)
            for size, want in zip(sizes, shape, strict=True)
        )

    if fits(array.shape):
        return array.expand(pairs, *array.shape)
    if array.ndim == len(shape) + 1 and array.shape[0] == pairs and fits(array.shape[1:]):
        return array
    wanted = ", ".join("*" if want is None else str(want) for want in shape)
    raise ValueError(
        f"{name} must be {letters} = ({wanted}), or stacked with P = {pairs} in "
        f"front, to match w1; got {tuple(array.shape)}"
    )


def _arrays(network: object, name: str) -> tuple[Any, Any, Any, Any]:
    """The four arrays (w1, b1, w2, b2) of ``network``, unchecked; None where it has none."""
    if isinstance(network, Tensor):
        return network, None, None, None
    if isinstance(network, nn.Module):
        return _module_arrays(network, name)
    if isinstance(network, Mapping):
        return _state_arrays(network, name)
    if isinstance(network, (tuple, list)) and len(network) == 2:
        return network[0], None, network[1], None
    if isinstance(network, (tuple, list)) and len(network) == 4:
        return network[0], network[1], network[2], network[3]
    raise TypeError(
        f"{name} must be a TwoLayerReLU, nn.Sequential(Linear, ReLU, Linear), a "
        "state_dict, a tensor w1, or a tuple (w1, w2) or (w1, b1, w2, b2); got "
        f"{type(network).__name__}"
    )


def _module_arrays(module: nn.Module, name: str) -> tuple[Any, Any, Any, Any]:
    from .nets import TwoLayerReLU  # which imports this file

    hidden: Any
    output: Any
    if isinstance(module, nn.Sequential):
        kinds = tuple(type(layer) for layer in module)
        if kinds != (nn.Linear, nn.ReLU, nn.Linear):
            got = ", ".join(kind.__name__ for kind in kinds)
            raise TypeError(
                f"{name} must be nn.Sequential(Linear, ReLU, Linear); got nn.Sequential({got})"
            )
        hidden, _, output = module
    elif isinstance(module, TwoLayerReLU) and type(module).forward is TwoLayerReLU.forward:
        hidden, output = module.hidden, module.output
    else:
        # Layers of the right names do not tell what a module computes with them.
        raise TypeError(
            f"{name} must be a TwoLayerReLU or nn.Sequential(Linear, ReLU, Linear); got "
            f"{type(module).__name__}. If it computes the same, pass (w1, b1, w2, b2)"
        )
    arrays = (hidden.weight, hidden.bias, output.weight, output.bias)
    w1, b1, w2, b2 = (None if array is None else array.detach() for array in arrays)
    return w1, b1, w2, b2


def _state_arrays(state: Mapping[Any, Any], name: str) -> tuple[Any, Any, Any, Any]:
    for keys in _STATE_KEYS:
        if keys[0] in state and keys[2] in state:
            extra = sorted(str(key) for key in state if key not in keys)
            if extra:
                raise ValueError(
                    f"{name} must hold one two-layer network; it also has the keys "
                    + ", ".join(extra)
                )
            w1, b1, w2, b2 = (state.get(key) for key in keys)
            return w1, b1, w2, b2
    wanted = " or ".join(f"{keys[0]} and {keys[2]}" for keys in _STATE_KEYS)
    got = ", ".join(sorted(str(key) for key in state)) or "no keys"
    raise ValueError(f"{name} must be a state_dict with {wanted}; got {got}")
