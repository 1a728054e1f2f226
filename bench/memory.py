# SPDX-License-Identifier: MIT
"""Peak memory beyond inputs and results, each measured in a process of its own."""

import subprocess
import sys
from typing import NamedTuple

PROLOGUE = """
import re, torch, lmc_fast
# Not getrusage: its maximum begins with that of the process which started this one.
def peak(): return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
def normal(*shape): return torch.empty(shape).normal_()
def network(n, m, d): return normal(m, d).div_(d ** 0.5), normal(1, m).div_(m ** 0.5)
def step(x, w1, w2):
    w1, w2 = w1.requires_grad_(), w2.requires_grad_()
    return torch.autograd.grad(lmc_fast.two_layer_relu(x, w1, None, w2, None).sum(), (w1, w2))
def path(x, a, b, A):
    return lmc_fast.path_losses(a, b, x, torch.zeros(len(x), 1), alphas=A).losses
step(normal(8, 2), *network(8, 8, 2)); path(normal(8, 2), network(8, 8, 2), network(8, 8, 2), 5)
"""
EPILOGUE = """
before = peak()
results = run()
sizes = sum(t.nbytes for t in (results if isinstance(results, tuple) else (results,)))
print(max(0, peak() - before - sizes))
"""


class Job(NamedTuple):
    """What is run: Python that defines ``run``."""

    op: str
    size: str
    setup: str


JOBS = [
    Job(
        "two_layer_relu",
        "forward+backward n=60000 m=65536 d=64 c=1 float32",
        "x, net = normal(60000, 64), network(60000, 65536, 64)\nrun = lambda: step(x, *net)",
    ),
    Job(
        "path_losses",
        "mse n=60000 m=16384 d=64 c=1 A=101 float32",
        "x, a, b = normal(60000, 64), network(1, 16384, 64), network(1, 16384, 64)\n"
        "run = lambda: path(x, a, b, 101)",
    ),
    Job(
        "path_losses",
        "mse n=60000 m=65536 d=784 c=1 A=101 float32",
        "x, a, b = normal(60000, 784), network(1, 65536, 784), network(1, 65536, 784)\n"
        "run = lambda: path(x, a, b, 101)",
    ),
]


def measure(job: Job) -> int:
    """Bytes of peak memory beyond inputs and results."""
    code = PROLOGUE + job.setup + EPILOGUE
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return int(done.stdout)
