# SPDX-License-Identifier: MIT
"""What overlaps with what when matrices go from a device to the host, told by a pretended one."""

import pytest
import torch

from lmc_fast.host_copies import on_host, one_ahead


class PretendedCopy:
    """A copy that lands when it is waited for and not before; until then the memory holds NaN."""

    def __init__(self, events: list[tuple[str, object]]) -> None:
        self.events = events
        self.memory = torch.full((2, 2), torch.nan)
        self.pending: torch.Tensor | None = None

    def start(self, matrix: torch.Tensor) -> None:
        assert self.pending is None, "a copy was overwritten before anybody read it"
        self.memory.fill_(torch.nan)
        self.pending = matrix
        self.events.append(("start", self))

    def finish(self) -> torch.Tensor:
        assert self.pending is not None
        self.memory.copy_(self.pending)
        self.pending = None
        self.events.append(("finish", self))
        return self.memory


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8])
def test_the_next_matrix_is_made_before_the_host_works_on_this_one(count: int) -> None:
    events: list[tuple[str, object]] = []
    copies = PretendedCopy(events), PretendedCopy(events)

    def make(i: int) -> torch.Tensor:
        events.append(("make", i))
        return torch.full((2, 2), float(i))

    for i, matrix in enumerate(one_ahead(count, make, copies)):
        # What is worked on does not change while the next one is on its way.
        assert (matrix == i).all()
        events.append(("work", i))
        assert (matrix == i).all()
    wanted: list[tuple[str, object]] = []
    for i in range(count):
        if i == 0:
            wanted += [("make", 0), ("start", copies[0])]
        if i + 1 < count:
            wanted += [("make", i + 1), ("start", copies[(i + 1) % 2])]
        wanted += [("finish", copies[i % 2]), ("work", i)]
    assert events == wanted


def test_on_the_cpu_there_is_one_matrix_and_no_copy() -> None:
    made: list[torch.Tensor] = []

    def make(i: int) -> torch.Tensor:
        made.append(torch.full((2, 2), float(i)))
        return made[-1]

    for i, matrix in enumerate(on_host(3, make, torch.device("cpu"))):
        assert len(made) == i + 1
        assert matrix is made[i]
