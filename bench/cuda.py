# SPDX-License-Identifier: MIT
"""Times the ops on a GPU against eager torch and writes bench/results/<gpu>.json."""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

import lmc_fast
from lmc_fast.ops import _cuda
from lmc_fast.reference import two_layer_relu as reference

from . import machine
from .timer import OURS, quartiles

SECONDS = 3.0  # sum of seconds after which a contestant sits out the rest of a row
BLOCK = 2**26  # numbers of a float64 block of the reference
LEVEL_1 = f"{OURS}, level 1"  # without tensor cores
NO_GPU, NO_KERNELS = 3, 2  # exit statuses
EAGER_ALPHAS, TWO_PRODUCTS_ALPHAS = 5, 25  # about so many are timed, and scaled up

# Matrix products in bfloat16 that stand for one of the given precision. Forward both operands are
# split; backward with one output the left one is a mask of zeros and ones.
FORWARD_PRODUCTS = {"float32": 6, "tf32": 3, "bf16": 1}
MASK_PRODUCTS = {"float32": 3, "tf32": 2, "bf16": 1}

# Relative errors in norm: of sums over neurons, and of the gradient to w1. In the latter a neuron
# whose z rounds to the other side of zero counts in full, however small z is: a fraction p of such
# gives an error near sqrt(2 p).
ALLOWED = {
    "float64": (1e-12, 1e-6),
    "float32": (1e-5, 5e-3),
    "tf32": (1e-3, 5e-2),
    "bf16": (2e-2, 1e-1),
}


@dataclass(frozen=True)
class Size:
    """One row; ``targets`` are (baseline, ours, ratio of their times)."""

    op: str
    n: int
    m: int
    d: int
    c: int = 1
    A: int = 0
    dtype: torch.dtype = torch.float32
    level_1: bool = False
    targets: tuple[tuple[str, str, float], ...] = ()

    def __str__(self) -> str:
        alphas = f" A={self.A}" if self.A else ""
        kind = "mse" if self.A else "forward+backward"
        dtype = str(self.dtype)[6:]
        return f"{kind} n={self.n} m={self.m} d={self.d} c={self.c}{alphas} {dtype}"

    def precisions(self) -> dict[str, str]:
        """Name of contestant to precision, for those of ours on tensor cores (or in float64)."""
        if self.dtype == torch.float64:
            return {OURS: "float32"}  # which says nothing of float64 tensors
        return {OURS: "float32", f"{OURS}, tf32": "tf32", f"{OURS}, bf16": "bf16"}


NETWORK, PATH = "two_layer_relu", "path_losses"
TF32_OFF, TF32_ON = "eager, TF32 off", "eager, TF32 on"
LOOP, LOOP_TF32, PRODUCTS = "eager loop, TF32 off", "eager loop, TF32 on", "two products, TF32 off"
SIZES = [
    Size(
        NETWORK,
        65536,
        65536,
        64,
        level_1=True,
        targets=((TF32_OFF, OURS, 6), (TF32_OFF, LEVEL_1, 2)),
    ),
    Size(NETWORK, 16384, 16384, 784, targets=((TF32_OFF, OURS, 3), (TF32_ON, OURS, 1))),
    Size(NETWORK, 16384, 16384, 784, c=10),
    Size(NETWORK, 4096, 4096, 64, dtype=torch.float64),
    Size(
        PATH,
        16384,
        16384,
        64,
        A=101,
        level_1=True,
        targets=((LOOP, OURS, 60), (PRODUCTS, OURS, 20)),
    ),
    Size(PATH, 16384, 16384, 784, A=25, targets=((LOOP, OURS, 25),)),
    Size(PATH, 16384, 16384, 784, c=10, A=25),
    Size(PATH, 4096, 4096, 64, A=25, dtype=torch.float64),
]


# The floor


def flops(size: Size, precision: str, tensor_cores: bool) -> tuple[str, float]:
    """The unit that multiplies, and the operations of the products that our kernels issue on it.

    What else they do (w2, biases, crossings, losses) is not counted.
    """
    one = 2.0 * size.n * size.m * size.d
    if size.dtype == torch.float64 or not tensor_cores:
        unit = str(size.dtype)[6:]
        forward = mask = 1
    else:
        unit = "bfloat16"
        forward = FORWARD_PRODUCTS[precision]
        mask = MASK_PRODUCTS[precision]
    if size.A:
        return unit, 2 * forward * one
    # Several outputs: the left operand is no mask, and the gradient to w2 makes z once more.
    return unit, (forward + (mask if size.c == 1 else 2 * forward)) * one


def fewest_bytes(size: Size) -> float:
    """Every input read once, every result written once, sign bits written and read."""
    n, m, d, c = size.n, size.m, size.d, size.c
    item = size.dtype.itemsize
    if size.A:
        return item * (n * d + 2 * m * d + 2 * c * m + n * c) + 8.0 * size.A
    return item * (n * d + 2 * (m * d + c * m + n * c)) + 2 * n * m / 8


def floor(operations: float, rate: float, moved: float, bandwidth: float) -> tuple[float, str]:
    """Seconds that no version is faster than, and whether arithmetic or memory says so."""
    arithmetic, memory = operations / rate, moved / bandwidth
    return (arithmetic, "arithmetic") if arithmetic >= memory else (memory, "memory")


# Settings under which contestants run


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Whether torch's own float32 products may use TF32."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@contextmanager
def without_tensor_cores() -> Iterator[None]:
    """Let our kernels run on the ordinary units."""
    before = _cuda.TENSOR_CORES
    _cuda.TENSOR_CORES = False
    try:
        yield
    finally:
        _cuda.TENSOR_CORES = before


def _level_1(call: Callable[[], Any]) -> Any:
    with without_tensor_cores():
        return call()


def _eager(call: Callable[[], Any], on: bool) -> Any:
    with tf32(on):
        return call()


# Cases


@dataclass
class Case:
    """One row, ready to run: contestants, their errors, and what ours are held to.

    ``share`` is the fraction of the work that a contestant does; its times are divided by it.
    """

    size: Size
    contestants: dict[str, Callable[[], tuple[Tensor, ...]]]
    errors: Callable[[str, tuple[Tensor, ...]], dict[str, float]]
    precision: dict[str, str]  # of ours
    share: dict[str, float] = field(default_factory=dict)

    def wrong(self, name: str, errors: dict[str, float]) -> str | None:
        """What is wrong with a result of ours; NaN always is."""
        double = self.size.dtype == torch.float64
        smooth, signs = ALLOWED["float64" if double else self.precision[name]]
        for what, error in errors.items():
            allowed = signs if what == "dw1" else smooth
            if not error <= allowed:
                return f"wrong: relative error of {what} {error:.1e}, allowed {allowed:.1e}"
        return None


def relative(got: Tensor, exact: Tensor) -> float:
    """|got - exact| / |exact| in norm, in float64."""
    return float((got.double() - exact).norm() / exact.norm())


def case(size: Size, device: str) -> Case:
    """Draw the inputs of a row."""
    return _path_case(size, device) if size.A else _network_case(size, device)


def _normal(size: Size, device: str) -> Callable[..., Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=size.dtype, device=device)


def _ours(size: Size, call: Callable[[str], Any]) -> dict[str, Callable[[], Any]]:
    contestants = {name: partial(call, precision) for name, precision in size.precisions().items()}
    if size.level_1:
        contestants[LEVEL_1] = partial(_level_1, contestants[OURS])
    return contestants


def _network_case(size: Size, device: str) -> Case:
    n, m, d, c = size.n, size.m, size.d, size.c
    normal = _normal(size, device)
    x, df = normal(n, d), normal(n, c)
    w1 = normal(m, d).div_(d**0.5).requires_grad_()
    w2 = normal(c, m).div_(m**0.5).requires_grad_()

    def step(f: Tensor) -> tuple[Tensor, ...]:
        return (f.detach(), *torch.autograd.grad(f, (w1, w2), df))

    def ours(precision: str) -> tuple[Tensor, ...]:
        return step(lmc_fast.two_layer_relu(x, w1, None, w2, None, precision=precision))

    def eager() -> tuple[Tensor, ...]:
        return step(reference.two_layer_relu(x, w1, None, w2, None))

    f_exact, dw1_exact, dw2_exact = exact_network(x, w1.detach(), w2.detach(), df)
    wide = w1.detach().double()

    def errors(name: str, result: tuple[Tensor, ...]) -> dict[str, float]:
        f, dw1, dw2 = result
        return {
            "f": relative(f, f_exact),
            "dw1": relative(dw1, dw1_exact),
            "dw2": relative(dw2, dw2_exact),
            # Hardly moved by a neuron on the wrong side of zero, as there z is small.
            "dw1.w1": relative((dw1.double() * wide).sum(1), (dw1_exact * wide).sum(1)),
        }

    contestants = _ours(size, ours) | {TF32_OFF: partial(_eager, eager, False)}
    if size.dtype == torch.float32:
        contestants[TF32_ON] = partial(_eager, eager, True)
    return Case(size, contestants, errors, size.precisions() | {LEVEL_1: "float32"})


def exact_network(x: Tensor, w1: Tensor, w2: Tensor, df: Tensor) -> tuple[Tensor, ...]:
    """Outputs and gradients to w1, w2 in float64, a block of samples at a time."""
    w1, w2 = w1.double(), w2.double()
    dw1, dw2, f = torch.zeros_like(w1), torch.zeros_like(w2), []
    rows = max(1, BLOCK // len(w1))
    for x_block, df_block in zip(x.split(rows), df.split(rows), strict=True):
        x_wide, df_wide = x_block.double(), df_block.double()
        h = (x_wide @ w1.T).relu_()
        f.append(h @ w2.T)
        dw2 += df_wide.T @ h
        dw1 += ((df_wide @ w2) * (h > 0)).T @ x_wide
    return torch.cat(f), dw1, dw2


def _path_case(size: Size, device: str) -> Case:
    n, m, d, c, A = size.n, size.m, size.d, size.c, size.A
    normal = _normal(size, device)
    x, y = normal(n, d), normal(n, c)
    a, b = ((normal(m, d).div_(d**0.5), normal(c, m).div_(m**0.5)) for _ in "ab")
    alphas = torch.linspace(0, 1, A, dtype=torch.float64)

    def ours(precision: str) -> tuple[Tensor, ...]:
        curve = lmc_fast.path_losses(a, b, x, y, alphas=alphas, loss="mse", precision=precision)
        return (curve.losses[0],)

    exact = exact_path(a, b, x, y, alphas.tolist())
    contestants: dict[str, Callable[[], tuple[Tensor, ...]]] = _ours(size, ours)
    share, every = {}, {}
    baselines = [(LOOP, _eager_loop, EAGER_ALPHAS, False)]
    if size.dtype == torch.float32:
        baselines.append((LOOP_TF32, _eager_loop, EAGER_ALPHAS, True))
    baselines.append((PRODUCTS, _two_products, TWO_PRODUCTS_ALPHAS, False))
    for name, loop, most, on in baselines:
        step = max(1, A // most)
        looped = alphas[::step].tolist()
        if len(looped) < A:
            name += f" ({len(looped)} alphas, scaled to {A})"
            share[name] = len(looped) / A
        every[name] = step
        contestants[name] = partial(_eager, partial(loop, a, b, x, y, looped), on)

    def errors(name: str, result: tuple[Tensor, ...]) -> dict[str, float]:
        return {"losses": relative(result[0], exact[:: every.get(name, 1)])}

    precision = size.precisions() | {LEVEL_1: "float32"}
    return Case(size, contestants, errors, precision, share)


Net = tuple[Tensor, Tensor]


def _eager_loop(
    a: Net, b: Net, x: Tensor, y: Tensor, alphas: Sequence[float]
) -> tuple[Tensor, ...]:
    """Interpolate the weights and run the network, once per alpha."""
    losses = []
    for alpha in alphas:
        w1, w2 = torch.lerp(a[0], b[0], alpha), torch.lerp(a[1], b[1], alpha)
        losses.append(_loss((x @ w1.T).relu() @ w2.T, y))
    return (torch.stack(losses),)


def _two_products(
    a: Net, b: Net, x: Tensor, y: Tensor, alphas: Sequence[float]
) -> tuple[Tensor, ...]:
    """Use that z is linear in alpha: both pre-activations once, then a loop over the alphas."""
    z_a, z_b = x @ a[0].T, x @ b[0].T
    losses = []
    for alpha in alphas:
        w2 = torch.lerp(a[1], b[1], alpha)
        losses.append(_loss(torch.lerp(z_a, z_b, alpha).relu_() @ w2.T, y))
    return (torch.stack(losses),)


def _loss(f: Tensor, y: Tensor) -> Tensor:
    return (f - y).square().sum(1).mean() / 2


def exact_path(a: Net, b: Net, x: Tensor, y: Tensor, alphas: Sequence[float]) -> Tensor:
    """Losses in float64, a block of samples at a time."""
    (w1_a, w2_a), (w1_b, w2_b) = ((w1.double(), w2.double()) for w1, w2 in (a, b))
    sums = torch.zeros(len(alphas), dtype=torch.float64, device=x.device)
    rows = max(1, BLOCK // len(w1_a))
    for x_block, y_block in zip(x.split(rows), y.split(rows), strict=True):
        z_a, z_b = x_block.double() @ w1_a.T, x_block.double() @ w1_b.T
        for k, alpha in enumerate(alphas):
            f = torch.lerp(z_a, z_b, alpha).relu_() @ torch.lerp(w2_a, w2_b, alpha).T
            sums[k] += (f - y_block.double()).square().sum() / 2
    return sums / len(x)


# Measuring


class Device(Protocol):
    """Runs calls: what of Gpu the rows need, so that tests can do without one."""

    name: str

    def peak(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], int]:
        """The results of a call, and its peak memory in bytes beyond inputs and results."""

    def seconds(self, call: Callable[[], Any]) -> float:
        """Time of one call."""

    def clean(self) -> None:
        """Give unused memory back."""


class Gpu:
    """Times by events, each call with a level-2 cache that holds none of its inputs."""

    name = "cuda"

    def __init__(self) -> None:
        cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0)
        self._other = torch.empty(max(2 * cache, 2**28), dtype=torch.uint8, device="cuda")

    def peak(self, call: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], int]:
        """See Device."""
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results = call()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        return results, max(0, peak - sum(t.numel() * t.element_size() for t in results))

    def seconds(self, call: Callable[[], Any]) -> float:
        """See Device."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        self._other.zero_()
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    def clean(self) -> None:
        """See Device."""
        torch.cuda.empty_cache()


def interleaved(
    contestants: dict[str, Callable[[], Any]], rounds: int, seconds: Callable[[Any], float]
) -> dict[str, list[float]]:
    """Let the contestants take turns after an untimed round; slow ones sit out later rounds."""
    for call in contestants.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            if sum(times[name]) < SECONDS:
                times[name].append(seconds(call))
    return times


def measure(case: Case, rounds: int, ceilings: dict[str, float], device: Device) -> dict[str, Any]:
    """Verify all contestants of ours, then time them and the baselines; one row of the file.

    Whoever runs out of memory, or is wrong, is left out and named with the reason.
    """
    errors: dict[str, dict[str, float]] = {}
    peaks: dict[str, int] = {}
    left_out: dict[str, str] = {}
    for name, call in case.contestants.items():
        device.clean()
        try:
            result, peaks[name] = device.peak(call)
            errors[name] = case.errors(name, result)
            result = ()
        except torch.cuda.OutOfMemoryError as error:
            left_out[name] = "out of memory: " + str(error).partition(". ")[0]
            continue
        if name.startswith(OURS) and (reason := case.wrong(name, errors[name])):
            left_out[name] = reason
    device.clean()
    names = [name for name in case.contestants if name not in left_out]
    calls = {name: case.contestants[name] for name in names if OURS not in left_out}
    times = interleaved(calls, rounds, device.seconds)
    times = {name: [s / case.share.get(name, 1.0) for s in ts] for name, ts in times.items()}
    median = {name: statistics.median(ts) for name, ts in times.items()}
    row: dict[str, Any] = {
        "op": case.size.op,
        "size": str(case.size),
        "median_s": median,
        "quartiles_s": {name: quartiles(ts) for name, ts in times.items()},
        "rounds": {name: len(ts) for name, ts in times.items()},
        "ratio": {name: s / median[OURS] for name, s in median.items() if name != OURS},
        "errors": errors,
        "peak_bytes": peaks,
        "floor": {},
        "left_out": left_out,
        "targets": [],
    }
    for name in median:
        if name.startswith(OURS):
            unit, operations = flops(case.size, case.precision[name], name != LEVEL_1)
            least, bound = floor(
                operations, ceilings[unit], fewest_bytes(case.size), ceilings["copy"]
            )
            row["floor"][name] = {
                "seconds": least,
                "by": bound,
                "unit": unit,
                "share": least / median[name],
            }
    for baseline, ours, wanted in case.size.targets:
        found = [name for name in median if name.startswith(baseline)]
        if found and ours in median:
            theirs, least = (next(iter(errors[who].values())) for who in (found[0], ours))
            row["targets"].append(
                {
                    "baseline": found[0],
                    "ours": ours,
                    "wanted": wanted,
                    "reached": median[found[0]] / median[ours],
                    "error_ratio": theirs / max(least, 1e-300),
                }
            )
    return row


def measure_ceilings(device: Gpu, small: bool) -> dict[str, float]:
    """Operations per second of large products in three types, bytes per second of a copy."""
    found = {}
    for dtype, side in ((torch.bfloat16, 8192), (torch.float32, 8192), (torch.float64, 4096)):
        side = side // 2 if small else side
        left, right = (torch.randn(side, side, device="cuda").to(dtype) for _ in range(2))
        found[str(dtype)[6:]] = 2.0 * side**3 / _median(device, partial(torch.mm, left, right))
        del left, right
    source = torch.randn(2**26 if small else 2**28, device="cuda")
    target = torch.empty_like(source)
    found["copy"] = 2.0 * 4 * source.numel() / _median(device, partial(target.copy_, source))
    return found


def _median(device: Gpu, call: Callable[[], Any]) -> float:
    with tf32(False):
        return statistics.median(interleaved({"": call}, 11, device.seconds)[""])


# Reporting

HEADINGS = ("size", "contestant", "time (quartiles)", "ratio", "of floor", "error", "memory")


def table(rows: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The cells of one op's rows."""
    cells = []
    for row in rows:
        first = row["size"]
        for name in (*row["median_s"], *row["left_out"]):
            errors = row["errors"].get(name, {})
            peak = row["peak_bytes"].get(name)
            if name in row["median_s"]:
                low, high = row["quartiles_s"][name]
                time = f"{_ms(row['median_s'][name])} ({_ms(low)} to {_ms(high)}) ms"
            else:
                time = row["left_out"][name]
            known = row["floor"].get(name)
            ratio = row["ratio"].get(name)
            cells.append(
                (
                    first,
                    name,
                    time,
                    "1" if name == OURS and not row["left_out"].get(name) else _ratio(ratio),
                    f"{known['share']:.0%} ({known['by']})" if known else "",
                    ", ".join(f"{what} {error:.1e}" for what, error in errors.items()),
                    "" if peak is None else f"{peak / 2**20:.0f} MiB",
                )
            )
            first = ""
    return cells


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.4g}"


def _ratio(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"


def target_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """One line for each target that was measured."""
    return [
        f"{row['op']} {row['size']}: {target['baseline']} / {target['ours']} = "
        f"{_ratio(target['reached'])}, target {target['wanted']:g}: "
        + ("reached" if target["reached"] >= target["wanted"] else "NOT REACHED")
        + f"; its error is {_ratio(target['error_ratio'])} times ours"
        for row in rows
        for target in row["targets"]
    ]


def plain(headings: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A table as text, its columns aligned."""
    lines = [list(headings), *cells]
    widths = [max(len(line[k]) for line in lines) for k in range(len(headings))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def print_table(title: str, cells: Sequence[Sequence[str]]) -> None:
    """By rich, where it is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(f"\n{title}\n{plain(HEADINGS, cells)}", flush=True)
        return
    drawn = Table(*HEADINGS, title=title, title_justify="left")
    for line in cells:
        drawn.add_row(*line)
    Console(width=200, markup=False).print(drawn)


def facts() -> dict[str, Any]:
    """The machine's facts and the GPU's."""
    try:
        known = machine.facts()
    except FileNotFoundError:  # no git
        known = {"commit": "unknown", "torch": torch.__version__, "version": lmc_fast.__version__}
    gpu = torch.cuda.get_device_properties(0)
    return known | {
        "gpu": gpu.name,
        "capability": f"{gpu.major}.{gpu.minor}",
        "memory_bytes": gpu.total_memory,
        "cuda": torch.version.cuda,
        "driver": _driver(),
    }


def _driver() -> str:
    if (smi := shutil.which("nvidia-smi")) is None:
        return "unknown"
    command = [smi, "--query-gpu=driver_version", "--format=csv,noheader"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return asked.stdout.partition("\n")[0].strip() or "unknown"


def results_file(gpu: str) -> Path:
    """Where the figures of a GPU go unless told otherwise."""
    return machine.ROOT / "results" / f"{re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-')}.json"


def sizes(quick: bool, only: str = "") -> list[Size]:
    """The rows, a quarter of n and m and no targets where it is to be quick."""
    chosen = SIZES
    if quick:
        chosen = [Size(s.op, s.n // 4, s.m // 4, s.d, s.c, s.A, s.dtype, s.level_1) for s in SIZES]
    return [size for size in chosen if only in f"{size.op} {size}"]


def run(
    chosen: Sequence[Size],
    rounds: int,
    device: Gpu,
    document: dict[str, Any],
    save: Callable[[], None],
) -> None:
    """Measure the rows into ``document``, saving it after each. A row that fails is named there."""
    for size in chosen:
        print(f"{size.op}: {size}", flush=True)
        try:
            row = measure(case(size, device.name), rounds, document["ceilings"], device)
            for name, reason in row["left_out"].items():
                print(f"  left out: {name}: {reason}", flush=True)
            where = "rows" if OURS in row["median_s"] else "failed"
            document[where].append(row)
        except Exception as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
            document["failed"].append({"op": size.op, "size": str(size), "reason": reason})
        save()
        try:
            torch.cuda.synchronize()
            device.clean()
        except RuntimeError:
            print("the device is in a state of error: the rest was not run (see --only)")
            return


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.cuda", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of n and m, fewer rounds")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default 11, quick 5)")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose op and size have it")
    parser.add_argument("--out", type=Path, help="JSON file (default bench/results/<gpu>.json)")
    given = parser.parse_args(arguments)
    chosen = sizes(given.quick, given.only)
    if not chosen:
        parser.error(f"no row has {given.only!r} in its op and size")
    if not torch.cuda.is_available():
        print("no GPU: nothing was run")
        return NO_GPU
    if not (_cuda.compiled("two_layer_relu.forward") and _cuda.compiled("path_losses")):
        print(f"no CUDA kernels in {lmc_fast.__file__}: nothing was run. Install where nvcc is")
        return NO_KERNELS
    known = facts()
    print(", ".join(f"{key} {value}" for key, value in known.items()))
    device = Gpu()
    ceilings = measure_ceilings(device, given.quick)
    print("ceilings: " + ", ".join(f"{key} {value:.3g}/s" for key, value in ceilings.items()))
    document: dict[str, Any] = {"machine": known, "ceilings": ceilings, "rows": [], "failed": []}
    out = given.out or results_file(known["gpu"])

    def save() -> None:
        out.write_text(json.dumps(document, indent=1) + "\n")

    run(chosen, given.rounds or (5 if given.quick else 11), device, document, save)
    rows = document["rows"] + [row for row in document["failed"] if "median_s" in row]
    for op in (NETWORK, PATH):
        if cells := table([row for row in rows if row["op"] == op]):
            print_table(f"{op}: median (quartiles), ratio to {OURS}", cells)
    print("\n".join(target_lines(rows)))
    wrong = [
        f"FAILED: {row['op']} {row['size']}: {name}: {reason}"
        for row in rows
        for name, reason in row["left_out"].items()
        if name.startswith(OURS)
    ]
    wrong += [
        f"FAILED: {row['op']} {row['size']}: {row['reason']}"
        for row in document["failed"]
        if "reason" in row
    ]
    print("\n".join(wrong))
    done = len(document["rows"]) + len(document["failed"])
    if done < len(chosen):
        wrong.append(f"{len(chosen) - done} rows were not run")
        print(wrong[-1])
    print(f"written to {out}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
