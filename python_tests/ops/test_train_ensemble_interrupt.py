# SPDX-License-Identifier: MIT
"""Ctrl-C during a training that would take for ever."""

import signal
import subprocess
import sys
import time

import pytest

# In one dimension the gradient is |u - v| / 2 and shrinks by 1 - lr / 2 per step.
START = """
import sys, time, torch, lmc_fast
w1 = torch.full((S, 1, 1), 0.5, dtype=torch.float64)
teacher = torch.ones(1, 1, dtype=torch.float64)
print("started", flush=True)
try:
    lmc_fast.train_ensemble(w1, teacher=teacher, lr=torch.tensor(LR).double(), steps=10**12,
                            tol=1e-3, threads=THREADS)
except KeyboardInterrupt:
    again = lmc_fast.train_ensemble(w1, teacher=teacher, lr=0.1, steps=3, threads=THREADS)
    print("interrupted", int(again.steps[0]), flush=True)
"""
CASES = {
    "one thread": {"S": 1, "THREADS": 1, "LR": [1e-12]},
    "more students than threads": {"S": 5, "THREADS": 2, "LR": [1e-12] * 5},
    # The first is done within half a second: the calling thread then waits for the other.
    "the caller waits": {"S": 2, "THREADS": 2, "LR": [1e-5, 1e-12]},
}


@pytest.mark.parametrize("case", CASES)
def test_ctrl_c_stops_the_training_within_a_second(case: str) -> None:
    values = "\n".join(f"{name} = {value!r}" for name, value in CASES[case].items())
    with subprocess.Popen(
        [sys.executable, "-c", values + START], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            time.sleep(1.0)
            assert process.poll() is None
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            # The library still works afterwards.
            assert process.stdout.readline() == "interrupted 3\n"
            assert time.monotonic() - sent < 1.0
            assert process.wait(30) == 0
        finally:
            process.kill()


def test_a_handler_that_does_not_raise_lets_the_training_finish() -> None:
    script = """
import signal, torch, lmc_fast
calls = []
signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.1)
w1 = torch.full((2, 1, 1), 0.5, dtype=torch.float64)
teacher = torch.ones(1, 1, dtype=torch.float64)
result = lmc_fast.train_ensemble(w1, teacher=teacher, lr=1e-5, steps=10**12, tol=1e-4, threads=2)
print(len(calls), bool(result.diverged.any()))
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert result.stdout == "1 False\n"
