# SPDX-License-Identifier: MIT
"""Time against n, m and A, at powers of two and beside them: as predicted, and without cliffs."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes

import lmc_fast
from lmc_fast.studies.plot_style import GREY, PAGE, legend_below, new_figure, style

from .timer import interleaved, quartiles

SIZE, D, A = 2048, 64, 25  # of what is held fixed
SIZES = [256, 512, 1000, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 8192]
ALPHAS = [2, 5, 10, 25, 63, 64, 65, 127, 128, 129, 255, 256, 257, 512, 1000, 1024]


class Curve(NamedTuple):
    """Seconds of one op against one of its sizes."""

    op: str
    against: str
    sizes: list[int]
    median_s: list[float]
    quartiles_s: list[tuple[float, float]]


def _two_layer_relu(n: int, m: int) -> Callable[[], Any]:
    x, df = torch.randn(n, D), torch.randn(n, 1)
    w1 = torch.randn(m, D).div_(D**0.5).requires_grad_()
    w2 = torch.randn(1, m).div_(m**0.5).requires_grad_()
    return lambda: torch.autograd.grad(lmc_fast.two_layer_relu(x, w1, None, w2, None), (w1, w2), df)


def _path_losses(n: int, m: int, alphas: int = A) -> Callable[[], Any]:
    x, y = torch.randn(n, D), torch.randn(n, 1)
    a, b = ((torch.randn(m, D) / D**0.5, torch.randn(1, m) / m**0.5) for _ in "ab")
    return lambda: lmc_fast.path_losses(a, b, x, y, alphas=alphas)


BUILDERS: list[tuple[str, str, list[int], Callable[[int], Callable[[], Any]]]] = [
    ("two_layer_relu", "n", SIZES, lambda n: _two_layer_relu(n, SIZE)),
    ("two_layer_relu", "m", SIZES, lambda m: _two_layer_relu(SIZE, m)),
    ("path_losses", "n", SIZES, lambda n: _path_losses(n, SIZE)),
    ("path_losses", "m", SIZES, lambda m: _path_losses(SIZE, m)),
    ("path_losses", "A", ALPHAS, lambda alphas: _path_losses(SIZE, SIZE, alphas)),
]


def measure(rounds: int) -> list[Curve]:
    """Time all curves; the sizes of one take turns."""
    curves = []
    for op, against, sizes, build in BUILDERS:
        torch.manual_seed(0)
        times = interleaved({str(size): build(size) for size in sizes}, rounds).values()
        medians = [statistics.median(seconds) for seconds in times]
        curves.append(Curve(op, against, sizes, medians, [quartiles(s) for s in times]))
    return curves


def cliff(sizes: list[int], seconds: list[float]) -> float:
    """Largest ratio of a size's time to the mean of the sizes one below and one above it."""
    time = dict(zip(sizes, seconds, strict=True))
    between = [s for s in sizes if s - 1 in time and s + 1 in time]
    return max(2 * time[s] / (time[s - 1] + time[s + 1]) for s in between)


LOOKS = {  # label, colour (Okabe and Ito), marker
    "two_layer_relu": ("two_layer_relu, forward + backward", "#D55E00", "^"),
    "path_losses": ("path_losses, mse", "#0072B2", "o"),
}
AXES = {
    "n": f"samples n\n(m = {SIZE}, d = {D}, A = {A})",
    "m": f"neurons m\n(n = {SIZE}, d = {D}, A = {A})",
    "A": f"alphas A\n(n = m = {SIZE}, d = {D})",
}


def draw(curves: list[Curve], title: str, path: Path) -> None:
    """One panel for each of n, m and A, with the slopes that the operation counts predict."""
    with style():
        figure = new_figure(PAGE, 3.1)
        panels = figure.subplots(1, len(AXES), sharey=True)
        for axes, (against, label) in zip(panels, AXES.items(), strict=True):
            for curve in curves:
                if curve.against == against:
                    _draw(axes, curve)
            axes.set_xscale("log", base=10 if against == "A" else 2)
            axes.set_yscale("log")
            axes.set_xlabel(label)
        panels[0].set_ylabel("time per call (ms)")
        panels[0].plot([], [], color=GREY, linestyle="--", label="predicted: linear, or flat")
        figure.suptitle(title, fontsize=8)
        legend_below(figure, panels[0], 3)
        figure.savefig(path)


def _draw(axes: Axes, curve: Curve) -> None:
    label, colour, marker = LOOKS[curve.op]
    ms = [1e3 * s for s in curve.median_s]
    ends = zip(*curve.quartiles_s, strict=True)
    bars = [[abs(1e3 * q - t) for q, t in zip(end, ms, strict=True)] for end in ends]
    axes.errorbar(
        curve.sizes, ms, bars, color=colour, marker=marker, linewidth=0.8, label=label, capsize=1.5
    )
    # Through the largest n or m, where little but the counted operations is left, and through the
    # smallest A: the crossings cost the same for any number of alphas, and losses add to them.
    linear = curve.against != "A"
    end = -1 if linear else 0
    predicted = [ms[end] * (size / curve.sizes[end] if linear else 1) for size in curve.sizes]
    axes.plot(curve.sizes, predicted, color=colour, alpha=0.6, linestyle="--", zorder=0)


def run(machine: dict[str, Any], threads: int, rounds: int, out: Path) -> list[str]:
    """Measure, write ``out`` and the PNG beside it, and say what was found, in lines."""
    curves = measure(rounds)
    document = {"machine": machine, "threads": threads, "curves": [c._asdict() for c in curves]}
    out.write_text(json.dumps(document, indent=1) + "\n")
    picture = out.with_suffix(".png")
    where = f"{machine['processor']}, {machine['cpu_target']}, {threads} threads"
    draw(curves, f"{where}; median and quartiles of {rounds} rounds", picture)
    lines = [
        f"{c.op} against {c.against}: a power of two takes at most "
        f"{cliff(c.sizes, c.median_s):.2f} times the mean of its neighbours"
        for c in curves
    ]
    return [*lines, f"written to {out} and {picture}"]
