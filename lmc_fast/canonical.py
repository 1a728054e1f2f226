# SPDX-License-Identifier: MIT
"""ReLU's rescaling symmetry, removed: every neuron gets incoming and outgoing weights of one norm.

For k > 0, relu(k z) = k relu(z): (k w1_i, k b1_i) with w2_i / k is the same neuron as (w1_i, b1_i)
with w2_i. Of all k the one with |(w1_i, b1_i)| = |w2_i| is chosen, which has the least
|(w1_i, b1_i)|^2 + |w2_i|^2 (Neyshabur, Salakhutdinov, Srebro, Path-SGD, NeurIPS 2015, arXiv
1506.02617, on the symmetry).
"""

import torch
from torch import Tensor
from torch.linalg import vector_norm

from .weights import Weights, as_weights

# Rounding an array to its dtype moves its norm by eps / 2 at most.
_BALANCED = 4


def canonicalize(network: object) -> Weights:
    """The same functions with |(w1_i, b1_i)| = |w2_i| for every neuron i.

    With n1, n2 the two norms, the new weights are the two unit vectors times sqrt(n1 n2), which
    lies between n1 and n2, so that neither overflows.

    Parameters
    ----------
    network : network
        Anything :func:`lmc_fast.as_weights` reads; P stacked ones too.

    Returns
    -------
    Weights
        Of the network's shape, dtype and device, detached. Outputs are the same to rounding. A
        neuron with n1 = 0 or n2 = 0, which contributes nothing, is zero on both sides. Neurons
        whose norms are equal to rounding stay as they are, so that a second call changes no bit.

    Raises
    ------
    TypeError, ValueError
        What :func:`lmc_fast.as_weights` raises.

    Notes
    -----
    Two networks that differ by order and scales of their neurons have canonical forms that differ
    by order alone. The segment between two canonical networks is another one than that between the
    networks as they were; w2 = 1 does not stay.

    Examples
    --------
    >>> w1, w2 = torch.tensor([[8.0, 0.0]]), torch.tensor([[2.0]])
    >>> canonicalize((w1, w2)).w1, canonicalize((w1, w2)).w2
    (tensor([[[4., 0.]]]), tensor([[[4.]]]))
    """
    weights = as_weights(network)
    w1, w2 = weights.w1.detach(), weights.w2.detach()
    b1 = None if weights.b1 is None else weights.b1.detach()
    b2 = None if weights.b2 is None else weights.b2.detach()
    incoming = w1 if b1 is None else torch.cat([w1, b1[..., None]], dim=2)
    unit_in, root_in = _unit_and_root(incoming)
    unit_out, root_out = _unit_and_root(w2.mT)
    # The norms differ by twice as much, relatively, as their roots.
    slack = _BALANCED / 2 * torch.finfo(w1.dtype).eps * root_in
    keep = ((root_in - root_out).abs() <= slack) & (root_in > 0)
    common = root_in * root_out
    incoming = torch.where(keep, incoming, (unit_in * common).to(w1.dtype))
    outgoing = torch.where(keep, w2.mT, (unit_out * common).to(w1.dtype)).mT.contiguous()
    if b1 is None:
        return Weights(incoming, None, outgoing, b2)
    return Weights(incoming[..., :-1].contiguous(), incoming[..., -1].contiguous(), outgoing, b2)


def _unit_and_root(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Float64 unit vectors (P, m, k) and roots of norms (P, m, 1); zeros for a zero vector.

    Entries are divided by the largest first, so that no square overflows or vanishes.
    """
    vectors = vectors.double()
    largest = vectors.abs().amax(-1, keepdim=True)
    relative = vectors / torch.where(largest > 0, largest, 1.0)
    norm = vector_norm(relative, dim=-1, keepdim=True)
    unit = relative / torch.where(norm > 0, norm, 1.0)
    return unit, largest.sqrt() * norm.sqrt()
