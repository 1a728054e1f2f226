# SPDX-License-Identifier: MIT
"""How close matchings come to the least barrier: `python -m bench.matchers` prints a table.

Trained students narrow enough that all permutations can be tried, at step sizes below, at and above
the edge of stability; see docs/matching.md. With `--times`, what `refine` takes for wider ones.
"""

import argparse
import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

import lmc_fast
from lmc_fast.weights import Teacher

D, TEACHER_WIDTH, STEPS, SCALE = 10, 5, 2500, 0.1
WIDTHS, RATES = (6, 7, 8), (4.0, 6.0, 6.4)  # lr = rate / m
COSTS = ("random", "weights", "activations", "gap")
REFINED = ("weights", "gap")
TIMED_WIDTHS, TIMED_COSTS = (8, 20, 40, 80, 100), ("gap", "weights", "random")
METHODS = (*COSTS, *(f"{cost}+refine" for cost in REFINED))
# A barrier below this share of the zero network's loss is that of two equal functions.
ZERO = 1e-9


class Row(NamedTuple):
    """Students of one width and step size; P pairs, of which no student diverged.

    Attributes
    ----------
    m : int
    rate : float
        The step size times m.
    edge : float
        Median of lr sharpness / 2, which is 1 at the edge of stability.
    least : Tensor, shape (P,)
        Least barrier of all permutations.
    certified : int
        Pairs for which :func:`lmc_fast.trained_certificate` holds.
    reached : dict of Tensor, shape (P,)
        Barrier by method.
    zero : float
        Barriers up to it count as zero.
    """

    m: int
    rate: float
    edge: float
    least: Tensor
    certified: int
    reached: dict[str, Tensor]
    zero: float

    def found(self, method: str) -> int:
        """Pairs for which ``method`` finds a permutation as good as the best."""
        return int((self.reached[method] <= self.least * (1 + 1e-6) + self.zero).sum())


def measure(m: int, rate: float, pairs: int, steps: int = STEPS, samples: int = 4096) -> Row:
    """Train 2 ``pairs`` students of width m with lr = rate / m and match them by each method."""
    teacher = lmc_fast.teacher(D, TEACHER_WIDTH)
    a, b = _students(m, rate, pairs, steps, teacher)
    edge = rate / m / 2 * lmc_fast.sharpness(torch.cat([a, b]), None, teacher)
    x = lmc_fast.sample_inputs(samples, D)
    matchings = {
        cost: lmc_fast.match(a, b, cost, x if cost == "activations" else None) for cost in COSTS
    }
    for cost in REFINED:
        found = lmc_fast.refine(a, b, matchings[cost], teacher=teacher)
        matchings[found.method] = found
    reached = {
        name: lmc_fast.barrier(a, b, teacher=teacher, match=matching).height
        for name, matching in matchings.items()
    }
    best = lmc_fast.best_matching(a, b, teacher=teacher)
    least = lmc_fast.barrier(a, b, teacher=teacher, match=best).height
    nothing = float(lmc_fast.population_loss(torch.zeros(1, D).double(), None, teacher))
    certified = int(lmc_fast.trained_certificate(a, b, teacher).holds.sum())
    return Row(m, rate, float(edge.median()), least, certified, reached, ZERO * nothing)


def refine_times(m: int, pairs: int, steps: int = STEPS) -> str:
    """A row of Markdown: CPU time of `refine` per pair, and the mean barrier before and after.

    Students of width m with lr = 4 / m; a cell for each matching that it begins with.
    """
    teacher = lmc_fast.teacher(D, TEACHER_WIDTH)
    a, b = _students(m, RATES[0], pairs, steps, teacher)
    cells = []
    for cost in TIMED_COSTS:
        start = lmc_fast.match(a, b, cost)
        began = time.process_time()
        found = lmc_fast.refine(a, b, start, teacher=teacher)
        seconds = (time.process_time() - began) / len(a)
        before, after = float(found.before.mean()), float(found.after.mean())
        cells.append(f"{seconds:.2g} s: {before:.4g} to {after:.4g}")
    return f"| {m} | " + " | ".join(cells) + " |"


def _students(
    m: int, rate: float, pairs: int, steps: int, teacher: Teacher
) -> tuple[Tensor, Tensor]:
    """First weights of trained pairs, twice (P, m, d), without those of a diverged student."""
    start = lmc_fast.init_students(range(2 * pairs), m, D, scale=SCALE)
    trained = lmc_fast.train_ensemble(start.w1, lr=rate / m, steps=steps, teacher=teacher)
    whole = ~(trained.diverged[:pairs] | trained.diverged[pairs:])
    if not bool(whole.any()):
        raise RuntimeError(f"a student of every pair diverged at lr = {rate} / {m}; train slower")
    return trained.w1[:pairs][whole], trained.w1[pairs:][whole]


def table(rows: Sequence[Row]) -> str:
    """Markdown: mean barrier over the mean least one, and in how many pairs they are the same."""
    lines = [
        "| lr m | m | lr sharpness / 2 | pairs | certified | no barrier | least barrier | "
        + " | ".join(METHODS)
        + " |",
        "|" + " ---: |" * (7 + len(METHODS)),
    ]
    for row in rows:
        least = float(row.least.mean())
        cells = []
        for method in METHODS:
            mean = float(row.reached[method].mean())
            times = f"{mean / least:.3g}x" if least > row.zero else f"{mean:.2g}"
            cells.append(f"{times} ({row.found(method)})")
        pairs = f"{len(row.least)} | {row.certified} | {int((row.least <= row.zero).sum())}"
        about = f"{row.rate:g} | {row.m} | {row.edge:.2f} | {pairs} | {least:.2g}"
        lines.append(f"| {about} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.matchers", description=__doc__)
    parser.add_argument("--pairs", type=int, default=16, help="pairs per row")
    parser.add_argument("--times", action="store_true", help="time refine, from three matchings")
    options = parser.parse_args(arguments)
    pairs = options.pairs
    if options.times:
        print("| m | " + " | ".join(f"from {cost}" for cost in TIMED_COSTS) + " |")
        print("|" + " ---: |" * (1 + len(TIMED_COSTS)))
        for m in TIMED_WIDTHS:
            print(refine_times(m, pairs), flush=True)
        return
    print(table([measure(m, rate, pairs) for rate in RATES for m in WIDTHS]))


if __name__ == "__main__":
    main()
