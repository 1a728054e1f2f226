# SPDX-License-Identifier: MIT
"""Training in chunks of steps, so that a launch is short and Ctrl-C is heard between two."""

import time
from collections.abc import Callable

TARGET_SECONDS = 0.1
MOST_GROWTH = 4


def in_chunks(
    steps: int,
    advance: Callable[[int], bool],
    pause_every: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Take all students to step ``steps``, or until none runs; at least one chunk.

    Parameters
    ----------
    advance : callable
        Takes the students to the step that it is given, waits for the device, and returns whether
        one of them still runs.
    pause_every : int
        No chunk goes past a multiple of this; 0 for none.
    """
    done, chunk = 0, 1
    while True:
        until = min(done + chunk, steps)
        if pause_every:
            until = min(until, (done // pause_every + 1) * pause_every)
        started = clock()
        running = advance(until)
        chunk = next_chunk(chunk, until - done, clock() - started)
        done = until
        if done == steps or not running:
            return


def next_chunk(chunk: int, taken: int, seconds: float) -> int:
    """Steps of the chunk after one of ``chunk``, ``taken`` steps of which took ``seconds``."""
    most = chunk * MOST_GROWTH
    if seconds * most <= taken * TARGET_SECONDS:
        return most
    return max(1, int(taken * TARGET_SECONDS / seconds))
