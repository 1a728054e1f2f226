# SPDX-License-Identifier: MIT
"""Which device a study gets, and how many pairs it takes at once, with pretended GPUs."""

from __future__ import annotations

import pytest
import torch

from lmc_fast.studies import chunk_size as chunk_module
from lmc_fast.studies import device as module
from lmc_fast.studies.cells import Chunk
from lmc_fast.studies.chunk_size import chunk_size, pairs_that_fit
from lmc_fast.studies.config import WidthConfig
from lmc_fast.studies.device import CPU, device_name, resolve_device
from lmc_fast.studies.errors import ConfigError
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.runner import plan
from lmc_fast.studies.tasks import Sizes

TEACHER = Sizes(0, 10, 1)


def pretend(patch: pytest.MonkeyPatch, gpus: int, kernels: bool = True) -> None:
    """Let torch see that many GPUs, of which the last is the current one."""
    patch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    patch.setattr(torch.cuda, "device_count", lambda: gpus)
    patch.setattr(torch.cuda, "current_device", lambda: gpus - 1)
    patch.setattr(torch.version, "cuda", "13.0")
    patch.setattr(module, "compiled", lambda op: kernels)


@pytest.mark.parametrize(
    ("asked", "gpus", "kernels", "wanted"),
    [
        ("auto", 0, True, "cpu"),
        ("auto", 2, False, "cpu"),
        ("auto", 2, True, "cuda:1"),
        ("cpu", 2, True, "cpu"),
        ("cuda", 2, True, "cuda:1"),
        ("cuda:0", 2, True, "cuda:0"),
        (torch.device("cuda", 1), 2, True, "cuda:1"),
        (torch.device("cpu", 0), 2, True, "cpu"),
    ],
)
def test_the_device_that_is_meant(
    asked: str | torch.device,
    gpus: int,
    kernels: bool,
    wanted: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, gpus, kernels)
    assert resolve_device(asked) == torch.device(wanted)


@pytest.mark.parametrize(
    ("asked", "gpus", "kernels", "message"),
    [
        ("cuda", 0, True, r"--device cuda needs a GPU, but torch \S+ sees none: pass --device cpu"),
        ("cuda:0", 0, True, "needs GPU number 0, but torch .* sees none: pass --device cpu"),
        ("cuda:2", 2, True, "needs GPU number 2, but torch sees cuda:0, cuda:1 only: pass .* auto"),
        ("cuda", 1, False, "needs CUDA kernels, which this build .* nvcc .* pass --device cpu"),
        ("mps", 1, True, "--device must be cpu, cuda, cuda:N or auto; got mps"),
        ("gpu", 1, True, "--device must be cpu, cuda, cuda:N or auto; got gpu"),
        ("cuda:x", 1, True, "--device must be cpu, cuda, cuda:N or auto; got cuda:x"),
        ("", 1, True, "--device must be cpu, cuda, cuda:N or auto; got $"),
    ],
)
def test_a_device_that_is_not_there(
    asked: str, gpus: int, kernels: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, gpus, kernels)
    with pytest.raises(ConfigError, match=message):
        resolve_device(asked)


def test_a_torch_without_cuda_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(ConfigError, match=r"needs a GPU, but torch .* is built without CUDA: pass"):
        resolve_device("cuda")


def test_names_of_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    assert device_name(torch.device("cuda", 0)) == "cuda:0 NVIDIA H200"
    assert device_name(CPU).startswith("cpu ")


def test_pairs_that_fit_by_hand() -> None:
    """With a teacher, m = 10, d = 10, c = 1, A = 25: 110 weights, 6 times for each of two students
    and 25 times for the segment, are 4,070 numbers a pair; a matching takes 1,000."""
    config = load_config("width")
    for pairs in (1, 2, 100, 1023):
        free = 2 * 8 * (1000 + 4070 * pairs)
        assert pairs_that_fit(free, 10, TEACHER, config) == pairs
        assert pairs_that_fit(free - 1, 10, TEACHER, config) == max(1, pairs - 1)


def test_pairs_that_fit_with_samples_by_hand() -> None:
    """n = 1000, d = 64, c = 10, m = 32: a student is 6 (32) (74) weights, activations of a step and
    1000 (10) outputs."""
    sgd = load_config("width", data="digits")
    gd = load_config("width", data="digits", overrides=["method=gd", "batch_size=none"])
    for config, step in ((sgd, 64), (gd, 1000)):
        pair = 2 * (6 * 32 * 74 + step * 32 + 1000 * 10)
        free = 2 * 8 * (10 * 32 * 32 + pair * 50)
        assert pairs_that_fit(free, 32, Sizes(1000, 64, 10), config) == 50


@pytest.mark.parametrize("m", [1, 80, 4096])
def test_there_is_always_a_pair_and_never_more_than_1024(m: int) -> None:
    config = load_config("width")
    found = [pairs_that_fit(2**power, m, TEACHER, config) for power in range(50)]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (1, 1024)


def test_what_decides_the_size_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    config, gpu = load_config("width"), torch.device("cuda", 0)
    assert chunk_size(None, config, TEACHER, CPU, 1)(80) == 16
    assert chunk_size(5, config, TEACHER, CPU, 1)(80) == 5
    assert chunk_size(5, config, TEACHER, gpu, 1)(80) == 5
    monkeypatch.setattr(chunk_module, "free_memory", lambda device: 2**28)
    for window in (1, 4):
        size = chunk_size(None, config, TEACHER, gpu, window)
        for m in (10, 80):
            assert size(m) == pairs_that_fit(2**28 // window, m, TEACHER, config)


def test_wide_students_are_cut_into_smaller_chunks(tiny: WidthConfig) -> None:
    sizes = {3: 9, 5: 3}
    chunks = [*plan(Chunk(tiny, 0, 0.0, ()), [(3, 0.1), (5, 0.2)], sizes.__getitem__)]
    assert [(chunk.width, len(chunk.pairs)) for chunk in chunks] == [(3, 4), (5, 3), (5, 1)]
    assert [pair for chunk in chunks[1:] for pair in chunk.pairs] == list(chunks[0].pairs)
