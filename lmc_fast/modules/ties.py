# SPDX-License-Identifier: MIT
"""Which axes of which tensors must be permuted together."""

from typing import NamedTuple


class Layout(NamedTuple):
    """Where a tensor has units that may be permuted.

    Attributes
    ----------
    key : int
        Of the permutation; see :class:`Ties`.
    dim : int
        Dimension of the tensor that counts the units.
    block : int
        Consecutive positions of each unit along it: after flattening, the size of its map.
    """

    key: int
    dim: int
    block: int


# Nothing is permuted: the input, and what depends on it alone.
FIXED = Layout(0, -1, 1)


class Ties:
    """Permutations, some of which must be the same one; key 0 is the identity.

    Attributes
    ----------
    names : list of str
        Of each key: the module that makes the units.
    sizes : list of int
        Of each key: its units.
    axes : dict from (tensor's name, dimension) to Layout
        Axes of parameters and buffers that are permuted, or are known not to be.
    """

    def __init__(self) -> None:
        self._parent = [0]
        self.names = [""]
        self.sizes = [0]
        self.axes: dict[tuple[str, int], Layout] = {}

    def new(self, name: str, size: int) -> int:
        """A permutation of ``size`` units that nothing is known of yet."""
        self._parent.append(len(self._parent))
        self.names.append(name)
        self.sizes.append(size)
        return len(self._parent) - 1

    def find(self, key: int) -> int:
        """The key that stands for all that are tied to ``key``."""
        while self._parent[key] != key:
            key = self._parent[key]
        return key

    def fixed(self, layout: Layout) -> bool:
        """Whether the units must stay in place, as far as is known."""
        return self.find(layout.key) == 0

    def tie(self, a: Layout, b: Layout) -> None:
        """Make two permutations one.

        Raises
        ------
        ValueError
            They are of different numbers of units.
        """
        first, second = sorted((self.find(a.key), self.find(b.key)))
        if first and (self.sizes[first], a.block) != (self.sizes[second], b.block):
            sizes = [f"{self.sizes[self.find(key)]} x {block}" for key, _, block in (a, b)]
            raise ValueError(f"its units would be tied to others, {sizes[0]} to {sizes[1]}")
        # The least stands for all: the identity before any other, then who came first.
        self._parent[second] = first

    def bind(self, tensor: str, dim: int, layout: Layout) -> None:
        """Say that dimension ``dim`` of a parameter or buffer counts the units of ``layout``."""
        known = self.axes.setdefault((tensor, dim), layout)
        self.tie(known, layout)
