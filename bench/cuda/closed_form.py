# SPDX-License-Identifier: MIT
"""The population loss and its gradient in batched torch, float64, output weights of one.

With t the angle between neurons u and v, the gradient of K(u, v) to u is
(|v| sin t u/|u| + (pi - t) v) / (2 pi). Angles come from the cosine, as in the formula that
everybody writes down first, so that nearly parallel neurons lose half of the digits.
"""

import math

import torch
from torch import Tensor


class ClosedForm:
    """Gradients of S students at once, in buffers that are allocated once.

    Parameters
    ----------
    w1 : Tensor, shape (S, m, d)
        Read in every call.
    v1 : Tensor, shape (M, d)
        The teacher.
    """

    def __init__(self, w1: Tensor, v1: Tensor) -> None:
        (S, m, d), M = w1.shape, len(v1)
        self._w1, self._m = w1, m
        # Partners are the student's own neurons, then the teacher's with a minus.
        self._directions, self._partners = (w1.new_empty(S, m + M, d) for _ in range(2))
        self._lengths = w1.new_empty(S, m + M, 1)
        self._angle, self._sine = (w1.new_empty(S, m, m + M) for _ in range(2))
        length = v1.norm(dim=1, keepdim=True)
        self._directions[:, m:] = v1 / length
        self._lengths[:, m:] = -length
        self._partners[:, m:] = -v1
        unit = v1 / length
        angle = (unit @ unit.T).clamp(-1, 1).acos()
        shape = angle.sin() + (math.pi - angle) * angle.cos()
        self._constant = float((length * length.T * shape).sum()) / (4 * math.pi)

    def gradient(self) -> Tensor:
        """(S, m, d)."""
        m, w1 = self._m, self._w1
        own = self._directions[:, :m]
        self._lengths[:, :m] = w1.norm(dim=2, keepdim=True)
        torch.div(w1, self._lengths[:, :m], out=own)
        self._partners[:, :m] = w1
        torch.bmm(own, self._directions.mT, out=self._angle)
        self._angle.clamp_(-1, 1).acos_()
        torch.sin(self._angle, out=self._sine)
        return self._sum(slice(None))

    def loss_and_gradient(self) -> tuple[Tensor, ...]:
        """(S,) and (S, m, d)."""
        gradient = self.gradient()
        # K(u, v) is the product of u and its gradient to u; own pairs are counted twice.
        doubled = gradient + self._sum(slice(self._m, None))
        return (self._w1 * doubled).sum((1, 2)) / 2 + self._constant, gradient

    def _sum(self, some: slice) -> Tensor:
        """The gradient's part of some of the partners."""
        partners, angle = self._partners[:, some], self._angle[:, :, some]
        turned = torch.bmm(self._sine[:, :, some], self._lengths[:, some])
        total = partners.sum(1, keepdim=True)
        result = torch.baddbmm(total, angle, partners, beta=math.pi, alpha=-1)
        return result.addcmul_(turned, self._directions[:, : self._m]).div_(2 * math.pi)
