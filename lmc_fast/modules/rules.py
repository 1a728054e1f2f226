# SPDX-License-Identifier: MIT
"""What each layer and function does to the units of its input."""

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from ..nets import TwoLayerReLU
from .ties import FIXED, Layout
from .walk import UnsupportedError, Walk

SUPPORTED = (
    "Linear, Conv1d to Conv3d (groups=1 or depthwise), BatchNorm, InstanceNorm, LayerNorm, "
    "RMSNorm, elementwise activations, softmax, Dropout, pooling, Flatten and other reshapes, "
    "mean and sum, residual additions and products, and TwoLayerReLU"
)

ModuleRule = Callable[[Walk, nn.Module, fx.Node], Layout]
FunctionRule = Callable[[Walk, fx.Node], Layout]


def layout_of(walk: Walk, node: fx.Node) -> Layout:
    """Where the result of a node has its units; ties and binds what the node needs.

    Raises
    ------
    UnsupportedError, ValueError
        With what is wrong, without saying where.
    """
    if node.op in ("placeholder", "get_attr") or not walk.is_tensor(node):
        return _without_units(walk, node)
    if node.op == "output":
        walk.ties.tie(walk.layout(_only(walk, node)), FIXED)
        return FIXED
    if node.op == "call_module":
        module = walk.module(node)
        rule = MODULES.get(type(module))
        if rule is None:
            raise UnsupportedError(
                _REASONS.get(type(module).__name__, "this type is not supported")
            )
        return rule(walk, module, node)
    table = METHODS if node.op == "call_method" else FUNCTIONS
    function = table.get(node.target)
    if function is not None:
        return function(walk, node)
    if all(
        other.op != "get_attr" and walk.layout(other) == FIXED for other in node.all_input_nodes
    ):
        return FIXED  # of the network's inputs alone: nothing that may be permuted
    raise UnsupportedError("this function is not supported")


def _without_units(walk: Walk, node: fx.Node) -> Layout:
    """Inputs, constants and numbers such as sizes; several tensors at once are refused."""
    if node.op not in ("placeholder", "get_attr") and not walk.is_number(node):
        raise UnsupportedError("it must give one tensor")
    return FIXED


def _only(walk: Walk, node: fx.Node) -> fx.Node:
    """The one tensor that a node takes."""
    tensors = [other for other in node.all_input_nodes if walk.is_tensor(other)]
    if len(tensors) != 1:
        raise UnsupportedError(f"it takes {len(tensors)} tensors where one is known")
    if tensors[0].op == "get_attr":
        raise UnsupportedError(f"it takes the tensor '{tensors[0].target}' of the module itself")
    return tensors[0]


def _linear(walk: Walk, module: nn.Module, node: fx.Node) -> Layout:
    source = _only(walk, node)
    walk.bind(module, "weight", 1, walk.along(source, walk.ndim(source) - 1))
    made = walk.make(module, "weight", 0, walk.ndim(node) - 1)
    walk.bind(module, "bias", 0, made)
    return made


def _convolution(walk: Walk, module: nn.Module, node: fx.Node) -> Layout:
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    source = _only(walk, node)
    channels = walk.along(source, 1)
    if module.groups == 1:
        walk.bind(module, "weight", 1, channels)
        made = walk.make(module, "weight", 0, 1)
    elif module.groups == module.in_channels == module.out_channels:
        made = channels
        walk.bind(module, "weight", 0, made)
    else:
        raise UnsupportedError(
            f"with groups={module.groups} channels may be permuted within groups alone; "
            "groups=1 and depthwise convolutions are supported"
        )
    walk.bind(module, "bias", 0, made)
    return made


def _two_layers(walk: Walk, module: nn.Module, node: fx.Node) -> Layout:
    assert isinstance(module, TwoLayerReLU)
    source = _only(walk, node)
    walk.bind(module.hidden, "weight", 1, walk.along(source, walk.ndim(source) - 1))
    hidden = walk.make(module.hidden, "weight", 0, -1)
    walk.bind(module.hidden, "bias", 0, hidden)
    walk.bind(module.output, "weight", 1, hidden)
    made = walk.make(module.output, "weight", 0, walk.ndim(node) - 1)
    walk.bind(module.output, "bias", 0, made)
    return made


def _per_channel(walk: Walk, module: nn.Module, node: fx.Node) -> Layout:
    """Each channel, dimension 1, has entries of its own in every parameter and statistic."""
    layout = walk.along(_only(walk, node), 1)
    for name in ("weight", "bias", "running_mean", "running_var"):
        walk.bind(module, name, 0, layout)
    return layout


def _prelu(walk: Walk, module: nn.Module, node: fx.Node) -> Layout:
    assert isinstance(module, nn.PReLU)
    if module.num_parameters == 1:
        return walk.layout(_only(walk, node))
    return _per_channel(walk, module, node)


def _layer_norm(walk: Walk, module: nn.Module, node: fx.Node) -> Layout:
    """Its statistics are sums over all normalised features, whatever their order."""
    source = _only(walk, node)
    layout = walk.layout(source)
    shape: tuple[int, ...] = module.normalized_shape  # type: ignore[assignment]
    first = walk.ndim(source) - len(shape)
    for dim in range(len(shape)):
        along = layout if first + dim == layout.dim else FIXED
        for name in ("weight", "bias"):
            walk.bind(module, name, dim, along)
    return layout


def _pooling(dims: int) -> FunctionRule:
    def rule(walk: Walk, node: fx.Node) -> Layout:
        source = _only(walk, node)
        layout = walk.layout(source)
        if not walk.ties.fixed(layout) and layout.dim >= walk.ndim(source) - dims:
            raise UnsupportedError("it pools over the units themselves")
        return layout

    return rule


def _same(walk: Walk, node: fx.Node) -> Layout:
    """Units stay where they are."""
    return walk.layout(_only(walk, node))


def _own(node: fx.Node) -> bool:
    """Whether a node depends on the module's own tensors alone."""
    return node.op == "get_attr" or (
        bool(node.all_input_nodes) and all(map(_own, node.all_input_nodes))
    )


def _entries(walk: Walk, layout: Layout) -> int:
    """Entries along the dimension that counts a layout's units."""
    return walk.ties.sizes[walk.ties.find(layout.key)] * layout.block


def _combined(walk: Walk, node: fx.Node) -> Layout:
    """Two tensors entry by entry, one perhaps repeated along dimensions of size 1; or a number."""
    tensors = [other for other in node.all_input_nodes if walk.is_tensor(other)]
    shifted = [(other, walk.ndim(node) - walk.ndim(other)) for other in tensors]
    units = [
        Layout(layout.key, layout.dim + shift, layout.block)
        for layout, shift in ((walk.layout(other), shift) for other, shift in shifted)
        if not walk.ties.fixed(layout)
    ]
    if not units:
        for other in tensors:
            if other.op == "get_attr":  # it may be combined with units elsewhere
                walk.hold(other)
        return FIXED
    # A single unit, such as a gate, is repeated for every unit of the other tensor.
    found = max(units, key=lambda layout: walk.shape(node)[layout.dim] == _entries(walk, layout))
    for other, shift in shifted:
        if found.dim < shift or walk.shape(other)[found.dim - shift] == 1:
            continue  # repeated for every unit
        if other.op == "get_attr":
            walk.bind_tensor(other, found.dim - shift, found)
            continue
        if _own(other):  # taken for fixed, it would silently keep the units in place
            raise UnsupportedError(
                "it combines units with what is computed from the module's own tensors"
            )
        layout = walk.layout(other)
        if not walk.ties.fixed(layout) and layout.dim + shift != found.dim:
            raise UnsupportedError("it combines tensors whose units lie along different dimensions")
        walk.ties.tie(found, layout)
    if any(layout.dim != found.dim for layout in units):
        raise UnsupportedError("it combines tensors whose units lie along different dimensions")
    return found


def _reshaped(walk: Walk, node: fx.Node) -> Layout:
    """Dimensions merged or split: a unit is a block of what it was merged into."""
    source = _only(walk, node)
    layout = walk.layout(source)
    if walk.ties.fixed(layout):
        return FIXED
    units = walk.ties.sizes[walk.ties.find(layout.key)]
    if units == 1:
        walk.ties.tie(layout, FIXED)
        return FIXED
    shape, made = walk.shape(source), walk.shape(node)
    before = math.prod(shape[: layout.dim])
    for dim, size in enumerate(made):
        if math.prod(made[:dim]) == before and size % units == 0:
            return Layout(layout.key, dim, size // units)
    raise UnsupportedError(f"it takes {shape} to {made}, which mixes units: keep them apart")


def _reduced(walk: Walk, node: fx.Node) -> Layout:
    """A mean, sum, largest or least value over some dimensions, or all of them."""
    source = _only(walk, node)
    layout = walk.layout(source)
    if walk.ties.fixed(layout):
        return FIXED
    positional = node.args[1] if len(node.args) > 1 else None
    # torch takes numpy's name of the argument too.
    given: Any = node.kwargs.get("dim", node.kwargs.get("axis", positional))
    count = walk.ndim(source)
    dims = (given,) if isinstance(given, int) else given or range(count)
    gone = sorted(dim % count for dim in dims)
    if layout.dim in gone:
        return FIXED  # the order of what is summed does not matter
    kept = walk.ndim(node) == count
    return layout._replace(dim=layout.dim - (0 if kept else sum(dim < layout.dim for dim in gone)))


def _of_input(rule: FunctionRule) -> ModuleRule:
    return lambda walk, module, node: rule(walk, node)


def _words(text: str) -> list[str]:
    return text.split()


_REASONS = {
    "GroupNorm": "it normalises groups of channels, which a permutation would mix",
    "MultiheadAttention": "its heads would have to be permuted as wholes",
    "Embedding": "it makes units of a table that is not followed",
}
_ACTIVATIONS = _words(
    "CELU ELU GELU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid Mish ReLU ReLU6 "
    "SELU SiLU Sigmoid Softplus Softshrink Softsign Tanh Tanhshrink Threshold Identity Dropout "
    "AlphaDropout Softmax LogSoftmax Dropout1d Dropout2d Dropout3d"
)
_ELEMENTWISE = _words(
    "abs alpha_dropout celu clamp clone contiguous cos dropout dropout1d dropout2d dropout3d elu "
    "exp gelu hardsigmoid hardswish hardtanh leaky_relu log_softmax logsigmoid mish neg pow relu "
    "relu6 relu_ rsqrt selu sigmoid silu sin softmax softplus softsign sqrt square tanh"
)
_COMBINATIONS = _words("add add_ iadd sub sub_ isub mul mul_ imul div div_ truediv itruediv")
_RESHAPES = _words("flatten reshape squeeze unflatten unsqueeze view")
_REDUCTIONS = _words("amax amin mean sum")
_POOLS = [
    (f"{kind}{dims}d", _pooling(dims))
    for kind in ("max_pool", "avg_pool", "lp_pool", "adaptive_max_pool", "adaptive_avg_pool")
    for dims in (1, 2, 3)
]
_BY_NAME: dict[str, FunctionRule] = {
    **dict.fromkeys(_ELEMENTWISE, _same),
    **dict.fromkeys(_COMBINATIONS, _combined),
    **dict.fromkeys(_RESHAPES, _reshaped),
    **dict.fromkeys(_REDUCTIONS, _reduced),
    **dict(_POOLS),
}


def _functions() -> dict[Any, FunctionRule]:
    """The rules by the function itself: another one may have the same name."""
    return {
        getattr(space, name): rule
        for space in (torch, functional, operator)
        for name, rule in _BY_NAME.items()
        if hasattr(space, name)
    }


def _modules() -> dict[type, ModuleRule]:
    rules: dict[str, ModuleRule] = {
        "Linear": _linear,
        **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d"), _convolution),
        **{f"{kind}Norm{d}d": _per_channel for kind in ("Batch", "Instance") for d in (1, 2, 3)},
        **dict.fromkeys(("LayerNorm", "RMSNorm"), _layer_norm),
        "PReLU": _prelu,
        **dict.fromkeys(_ACTIVATIONS, _of_input(_same)),
        **dict.fromkeys(("Flatten", "Unflatten"), _of_input(_reshaped)),
        **{_pool_class(name): _of_input(rule) for name, rule in _POOLS},
    }
    # Exactly these types: a subclass may compute something else.
    known: dict[type, ModuleRule] = {
        getattr(nn, name): rule for name, rule in rules.items() if hasattr(nn, name)
    }
    return known | {TwoLayerReLU: _two_layers}


def _pool_class(name: str) -> str:
    """The class of a function: AdaptiveMaxPool2d of adaptive_max_pool2d; torch writes LPPool."""
    words = name.split("_")
    return "".join("LP" if word == "lp" else word.capitalize() for word in words)


FUNCTIONS = _functions()
METHODS: dict[Any, FunctionRule] = {k: v for k, v in _BY_NAME.items() if hasattr(Tensor, k)}
MODULES = _modules()
