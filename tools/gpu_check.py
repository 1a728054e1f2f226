# SPDX-License-Identifier: MIT
"""Everything that needs a GPU, in one command: build for it, test, sanitize, time.

Needs no network: torch, pytest, scikit-build-core, pybind11, CMake and nvcc are those of this
Python and machine. The build goes into an environment of its own, build/gpu-check. A step that
fails does not keep the others from running. Exit status: 0, 1 if a step failed, 3 without a GPU.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "gpu-check"
NO_GPU = 3
SHOWN = 30  # last lines of a failed step
# With tests marked gpu, beside those of the studies, which need more to be installed.
GPU_TESTS = (
    "ops/test_cuda.py",
    "ops/test_direct_calls.py",
    "ops/test_population_loss_cuda.py",
    "ops/test_train_ensemble_cuda.py",
    "ops/test_train_ensemble_driver.py",
    "test_cuda_matching.py",
)
SANITIZER_ERRORS = 99  # exit status that we ask compute-sanitizer for

# What torch sees. The last line is read: torch may warn.
PROBE = """
import json, torch
found = None
if torch.cuda.is_available():
    gpu = torch.cuda.get_device_properties(0)
    found = {"name": gpu.name, "capability": f"{gpu.major}{gpu.minor}", "torch": torch.__version__}
print(json.dumps(found))
"""

# That the build just made is the one which is imported, and has its kernels.
IMPORTED = """
import sys, lmc_fast
report = str(lmc_fast.backend())
print(report)
kernels = lmc_fast.backend().cuda_kernels
assert lmc_fast.__file__.startswith(sys.prefix), f"imported from {lmc_fast.__file__}"
assert kernels, "no CUDA kernels were compiled in"
print(len(kernels), "kernels")
"""


class Step(NamedTuple):
    """One command and its time limit in seconds, or why it is skipped.

    Where ``wanted`` is given, a step has passed only if its output has it.
    """

    name: str
    command: list[str]
    limit: float
    skipped: str = ""
    wanted: str = ""


class Outcome(NamedTuple):
    """What became of a step."""

    name: str
    result: str  # passed, FAILED, TIMED OUT or skipped
    seconds: float
    note: str


def find_gpu() -> tuple[dict[str, str] | None, str]:
    """The GPU that torch sees, or why there is none."""
    asked = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True)
    if asked.returncode != 0:
        return None, (asked.stderr.strip().splitlines() or ["torch did not start"])[-1]
    found = json.loads(asked.stdout.strip().splitlines()[-1])
    return found, "" if found else "torch sees no CUDA device"


def python() -> str:
    """The environment's interpreter."""
    return str(FOLDER / "venv" / "bin" / "python")


def environment() -> dict[str, str]:
    """Variables under which the steps run: lmc_fast is the one built, never the source tree's."""
    variables = dict(os.environ)
    paths = variables.pop("PYTHONPATH", "").split(os.pathsep)
    if kept := [path for path in paths if path and not (Path(path) / "lmc_fast").exists()]:
        variables["PYTHONPATH"] = os.pathsep.join(kept)
    return variables | {
        "PYTHONSAFEPATH": "1",  # keeps the working directory from the front of sys.path
        "PYTHONUNBUFFERED": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # whatever else is installed
    }


def make_environment() -> None:
    """An empty environment that finds this Python's packages (but no editable install) and bench.

    Not --system-site-packages: if this Python is itself that of a virtual environment, that would
    find the packages of the Python below it.
    """
    venv.create(FOLDER / "venv", clear=True, symlinks=True)
    found = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (packages,) = (FOLDER / "venv" / "lib").glob("python*/site-packages")
    (packages / "machine.pth").write_text("".join(f"{path}\n" for path in (*found, ROOT)))


def install_command() -> list[str]:
    """Build lmc_fast and install it into the environment."""
    pip = [sys.executable, "-m", "pip", "--python", python(), "--disable-pip-version-check"]
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--ignore-installed"]
    built = f"build-dir={FOLDER / 'objects'}"
    return [*pip, "install", *options, "--verbose", "--config-settings", built, str(ROOT)]


def pytest(*arguments: str, prefix: Sequence[str] = ()) -> list[str]:
    """A run of pytest in the environment, its cache left alone."""
    return [*prefix, python(), "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]


def missing(*modules: str) -> str:
    """Which of the modules is not installed, as a reason to skip a step; empty if all are."""
    names = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(names)}" if names else ""


def steps(figures: Path | None, quick: bool) -> list[Step]:
    """All steps in order. Their limits sum up to less than nine minutes."""
    tests = ROOT / "python_tests"
    gpu_tests = [str(tests / name) for name in GPU_TESTS]
    no_pytest = missing("pytest", "hypothesis")
    no_studies = missing("pydantic", "safetensors")
    no_digits = no_pytest or no_studies or missing("sklearn")
    sanitizer = shutil.which("compute-sanitizer")
    no_sanitizer = no_pytest or ("" if sanitizer else "compute-sanitizer is not on PATH")
    parallel = ["-p", "xdist", "-n", "8"] if importlib.util.find_spec("xdist") else []
    studies = pytest("-m", "gpu", str(tests / "studies" / "test_cuda_studies.py"))
    times = [python(), "-m", "bench.cuda"]
    rows = [*times, *(["--quick"] if quick else []), *(["--out", str(figures)] if figures else [])]
    study = [*times, "--study", "15"]
    study += ["--out", str(figures.with_stem(f"{figures.stem}-study"))] if figures else []
    no_time = "left out by --quick" if quick else ""
    found = [
        Step("build", install_command(), 130),
        Step("import", [python(), "-c", IMPORTED], 10),
        Step("GPU tests", pytest("-m", "gpu", *gpu_tests), 70, no_pytest, wanted=" passed"),
        Step("study tests", studies, 20, no_digits, wanted=" passed"),
        Step("bench", rows, 125),
        Step("bench study", study, 40, no_studies or no_time),
    ]
    # -x: what follows an error of the device fails as well.
    selected = ["-x", "-m", "gpu and sanitize_quick", *gpu_tests]
    for tool, limit in (("memcheck", 50), ("racecheck", 40), ("initcheck", 25)):
        options = ["--tool", tool, "--error-exitcode", str(SANITIZER_ERRORS)]
        if tool == "memcheck":  # torch's calls that fail as it looks around are no errors of ours
            options += ["--report-api-errors", "no"]
        command = pytest(*selected, prefix=[sanitizer or "", *options])
        found.append(Step(tool, command, limit, no_sanitizer, wanted=" passed"))
    # test_cpu_targets.py runs all the others again.
    ops = tests / "ops"
    some = ["-m", "sanitize_quick and not gpu", "--ignore", str(ops / "test_cpu_targets.py")]
    native = pytest(*some, *parallel, str(ops))
    return [*found, Step("CPU tests", native, 25, no_pytest, wanted=" passed")]


def allowance(rest: Sequence[Step], seconds: float) -> float:
    """Seconds for the first of the steps: the time left, divided by their limits' proportions.

    So each gets its limit or more while those before it kept theirs.
    """
    if rest[0].skipped:
        return 0.0
    return max(1.0, seconds) * rest[0].limit / sum(step.limit for step in rest if not step.skipped)


def run(step: Step, limit: float, variables: dict[str, str], log: Path) -> Outcome:
    """Run a step, its output into ``log``, and end it with all it started at its limit."""
    if step.skipped:
        return Outcome(step.name, "skipped", 0.0, step.skipped)
    began = time.monotonic()
    with log.open("w") as output:
        try:
            process = subprocess.Popen(
                step.command,
                cwd=ROOT,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(step.name, "FAILED", 0.0, str(error))
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    seconds = time.monotonic() - began
    text = log.read_text(errors="replace")
    result, note = judge(step, status, text)
    if status is None:
        note = f"limit {limit:.0f} s"
    return Outcome(step.name, result, seconds, note)


def judge(step: Step, status: int | None, text: str) -> tuple[str, str]:
    """Result and note of a step from its exit status (None: timed out) and output."""
    if status is None:
        return "TIMED OUT", ""
    if "Device not supported" in text and step.name.endswith("check"):
        return "skipped", "compute-sanitizer does not support this device"
    lines = [line.strip(" =") for line in text.splitlines()]
    telling = [line for line in lines if re.search(r"SUMMARY:|\d+ (passed|failed|skipped)", line)]
    note = "; ".join(telling[-2:])
    if status != 0:
        return "FAILED", note or f"exit status {status}"
    if step.wanted and step.wanted not in text:
        return "FAILED", note or f"its output has no {step.wanted!r}"
    return "passed", note


def summary(outcomes: Sequence[Outcome]) -> str:
    """The table at the end."""
    width = max(len(outcome.name) for outcome in outcomes)
    return "\n".join(
        f"{o.name:<{width}}  {o.result:<9}  {o.seconds:6.1f} s  {o.note}".rstrip() for o in outcomes
    )


def show(step: Step, outcome: Outcome, log: Path) -> None:
    """Print what a step wrote: all of the benchmark's, the end of what did not pass."""
    print(f"   {outcome.result} after {outcome.seconds:.1f} s {outcome.note}", flush=True)
    if outcome.result == "skipped" or not log.exists():
        return
    lines = log.read_text(errors="replace").splitlines()
    if not step.name.startswith("bench"):
        lines = lines[-SHOWN:] if outcome.result != "passed" else []
    print("\n".join(lines), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for the logs and the benchmark's figures")
    parser.add_argument("--quick", action="store_true", help="the benchmark's small sizes")
    parser.add_argument("--only", action="append", metavar="STEP", help="this step (repeatable)")
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything (default 9)")
    given = parser.parse_args(arguments)
    deadline = time.monotonic() + 60 * given.minutes
    gpu, reason = find_gpu()
    if gpu is None:
        print(f"no GPU: nothing was run ({reason})")
        return NO_GPU
    print(", ".join(f"{key} {value}" for key, value in gpu.items()), flush=True)
    logs = (given.out or FOLDER / "logs").resolve()
    logs.mkdir(parents=True, exist_ok=True)
    chosen = steps(logs / "figures.json" if given.out else None, given.quick)
    if given.only:
        if unknown := set(given.only) - {step.name for step in chosen}:
            parser.error(f"no step is called {', '.join(unknown)}")
        chosen = [step for step in chosen if step.name in given.only]
    variables = environment() | {
        "SKBUILD_CMAKE_DEFINE": "LMC_FAST_CUDA=ON;LMC_FAST_CUDA_ARCHITECTURES=" + gpu["capability"]
    }
    if "build" in [step.name for step in chosen]:
        make_environment()
    outcomes = []
    for k, step in enumerate(chosen):
        limit = allowance(chosen[k:], deadline - time.monotonic())
        print(f"== {step.name} (at most {limit:.0f} s)", flush=True)
        log = logs / f"{step.name.replace(' ', '-')}.log"
        log.unlink(missing_ok=True)
        # With memory of its own for every tensor, reads beyond one or before its first write show.
        extra = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"} if step.name.endswith("check") else {}
        outcomes.append(run(step, limit, variables | extra, log))
        show(step, outcomes[-1], log)
    print(f"\n{summary(outcomes)}\nlogs in {logs}")
    return 1 if any(o.result in ("FAILED", "TIMED OUT") for o in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
