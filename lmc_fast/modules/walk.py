# SPDX-License-Identifier: MIT
"""A walk along a traced network: where each node's result has its units."""

from collections.abc import Mapping

from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import TensorMetadata

from .ties import FIXED, Layout, Ties


class UnsupportedError(Exception):
    """What a node does to units is not known; the message says why."""


class Walk:
    """A traced network, what is known of its nodes so far, and the ties that they made.

    Parameters
    ----------
    traced : fx.GraphModule
        Its nodes know their shapes.
    names : mapping of int to str
        Of parameters and buffers by identity.
    """

    def __init__(self, traced: fx.GraphModule, names: Mapping[int, str]) -> None:
        self._traced = traced
        self._names = names
        self._modules = dict(traced.named_modules())
        self.ties = Ties()
        self.layouts: dict[fx.Node, Layout] = {}

    def layout(self, node: fx.Node) -> Layout:
        """Where a node that has been visited has its units."""
        return self.layouts[node]

    def module(self, node: fx.Node) -> nn.Module:
        """The module that a node calls."""
        found: nn.Module = self._modules[str(node.target)]
        return found

    def is_tensor(self, node: fx.Node) -> bool:
        """Whether a node's result is one tensor."""
        return isinstance(node.meta.get("tensor_meta"), TensorMetadata)

    def is_number(self, node: fx.Node) -> bool:
        """Whether a node's result holds no tensor: a size, a shape, a dtype."""
        return node.meta.get("tensor_meta") is None

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """Shape of a node's tensor."""
        return tuple(node.meta["tensor_meta"].shape)

    def ndim(self, node: fx.Node) -> int:
        """Dimensions of a node's tensor."""
        return len(self.shape(node))

    def along(self, node: fx.Node, dim: int) -> Layout:
        """The layout of a node whose units must lie along one dimension."""
        layout = self.layouts[node]
        if not self.ties.fixed(layout) and layout.dim != dim:
            raise UnsupportedError(
                f"it acts on dimension {dim} of {self.shape(node)}, and units lie along dimension "
                f"{layout.dim}: flatten first"
            )
        return layout

    def make(self, module: nn.Module, name: str, axis: int, dim: int) -> Layout:
        """Units along ``dim`` of the result, one for each entry along ``axis`` of a parameter.

        Those of a module that was called before are the same.
        """
        tensor, size = self._tensor(module, name)
        known = self.ties.axes.get((tensor, axis))
        if known is not None:
            return Layout(known.key, dim, known.block)
        key = self.ties.new(tensor.rpartition(".")[0] or tensor, size[axis])
        made = Layout(key, dim, 1)
        self.ties.bind(tensor, axis, made)
        return made

    def bind(self, module: nn.Module, name: str, axis: int, layout: Layout) -> None:
        """Say that an axis of a module's parameter or buffer, if it has one, counts the units."""
        if getattr(module, name, None) is not None:
            self.ties.bind(self._tensor(module, name)[0], axis, layout)

    def bind_tensor(self, node: fx.Node, axis: int, layout: Layout) -> None:
        """The same of a tensor that the network takes directly."""
        self.ties.bind(self._name(self._value(node), str(node.target)), axis, layout)

    def hold(self, node: fx.Node) -> None:
        """Say that nothing of a tensor that the network takes directly may be permuted."""
        name = self._names.get(id(self._value(node)))
        if name is not None:  # constants cannot be
            for axis in range(self.ndim(node)):
                self.ties.bind(name, axis, FIXED)

    def _value(self, node: fx.Node) -> object:
        value: object = self._traced
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value

    def _tensor(self, module: nn.Module, name: str) -> tuple[str, tuple[int, ...]]:
        tensor = getattr(module, name)
        assert isinstance(tensor, Tensor)
        return self._name(tensor, name), tuple(tensor.shape)

    def _name(self, tensor: object, called: str) -> str:
        if id(tensor) not in self._names:
            raise UnsupportedError(
                f"its {called} is computed from others: remove weight norm or other "
                "parametrizations first"
            )
        return self._names[id(tensor)]

    def describe(self, node: fx.Node) -> str:
        """What a node is called in an error: path and type."""
        if node.op == "call_module":
            return f"module '{node.target}' ({type(self.module(node)).__name__})"
        if node.op == "output":
            return "the output"
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        where = f" in module '{stack[-1][0]}'" if stack else ""
        kind = "method" if node.op == "call_method" else "function"
        name = getattr(node.target, "__name__", str(node.target))
        return f"{kind} '{node.name if name == 'fn' else name}'{where}"
