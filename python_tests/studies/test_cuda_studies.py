# SPDX-License-Identifier: MIT
"""Studies on a GPU measure what they measure on the CPU, up to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from compare import assert_close

import lmc_fast
from lmc_fast.ops import _cuda
from lmc_fast.studies.config import LearningRateConfig, WidthConfig
from lmc_fast.studies.presets import load_config
from lmc_fast.studies.provenance import PROVENANCE
from lmc_fast.studies.runner import run_study
from lmc_fast.studies.store import CellKey, Row, create, open_existing

KEY = ("config_hash", *CellKey._fields)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not torch.cuda.is_available() or not _cuda.compiled("two_layer_relu.forward"),
        reason="needs a GPU and a CUDA build",
    ),
    # Of ops without kernels of ours.
    pytest.mark.filterwarnings("ignore:lmc_fast has no"),
]


def rows(folder: Path) -> list[Row]:
    with open_existing(folder) as store:
        return store.rows()


def agree(found: list[Row], wanted: list[Row], relative: float, absolute: float = 1e-12) -> None:
    """Counts are equal and measurements close; where a barrier is attained may be a tie."""
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for name, value in other.items():
            if name in PROVENANCE or "seconds" in name or name.startswith("alpha"):
                continue
            if isinstance(value, float):
                assert one[name] == pytest.approx(value, rel=relative, abs=absolute), name
            else:
                assert one[name] == value, name


def test_gpu_width_study_agrees_with_the_cpus(tmp_path: Path, tiny: WidthConfig) -> None:
    for name, options in (
        ("cpu", {}),
        ("cuda", {"device": "cuda"}),
        ("by ones", {"device": "cuda", "chunk_pairs": 1}),
    ):
        assert run_study(tiny, tmp_path / name, **options).computed == 8  # type: ignore[arg-type]
    agree(rows(tmp_path / "cuda"), rows(tmp_path / "cpu"), 1e-8)
    agree(rows(tmp_path / "by ones"), rows(tmp_path / "cuda"), 1e-10)
    number = torch.cuda.current_device()
    named = f"cuda:{number} {torch.cuda.get_device_name(number)}"
    assert {row["backend"] for row in rows(tmp_path / "cuda")} == {named}
    assert {row["backend"] for row in rows(tmp_path / "cpu")} != {named}
    with open_existing(tmp_path / "cuda") as found, open_existing(tmp_path / "cpu") as wanted:
        for row in wanted.rows():
            key = CellKey(*(row[name] for name in CellKey._fields))  # type: ignore[arg-type]
            for one, other in zip(found.curves(key), wanted.curves(key), strict=True):
                assert one[:2] == other[:2]
                assert one.losses == pytest.approx(other.losses, rel=1e-8)


def test_gpu_learning_rate_study_agrees_with_the_cpus(
    tmp_path: Path, tiny_rates: LearningRateConfig
) -> None:
    for device in ("cpu", "cuda"):
        assert run_study(tiny_rates, tmp_path / device, device=device).computed == 8
    # The grid is placed by a sharpness, of which differences give about eight digits.
    agree(rows(tmp_path / "cuda"), rows(tmp_path / "cpu"), 1e-4, 1e-8)
    with open_existing(tmp_path / "cuda") as found, open_existing(tmp_path / "cpu") as wanted:
        probes = zip(found.probes(), wanted.probes(), strict=True)
        for one, other in probes:
            assert one[:3] == pytest.approx(other[:3], rel=1e-6)
            assert one.sharpness == pytest.approx(other.sharpness, rel=1e-6)


@pytest.mark.parametrize("order", [("cpu", "cuda"), ("cuda", "cpu")])
def test_gpu_a_study_goes_on_on_another_device(
    tmp_path: Path, tiny: WidthConfig, order: tuple[str, str]
) -> None:
    run_study(tiny, tmp_path / "whole")
    first, second = order
    half = tiny.model_copy(update={"pairs": 2})
    run_study(half, tmp_path / "half", device=first)
    # As if interrupted: the same cells, in a store of the whole configuration.
    columns = {name: "" for name in rows(tmp_path / "half")[0] if name not in KEY}
    with create(tmp_path / "both", tiny, columns) as store:
        for row in rows(tmp_path / "half"):
            store.add({**row, "config_hash": tiny.digest()})
    assert run_study(tiny, tmp_path / "both", device=second).computed == 4
    found = rows(tmp_path / "both")
    agree(found, rows(tmp_path / "whole"), 1e-8)
    devices = [str(row["backend"]).partition(":")[0].partition(" ")[0] for row in found]
    assert devices == [first, first, second, second] * 2


def test_gpu_images(tmp_path: Path) -> None:
    settings = ["pairs=2", "steps=20", "alphas=3", "widths=[8,16]", "lr=0.5"]
    matchings = 'matchings=["none","gap","weights","activations","random"]'
    config = load_config("width", data="digits", overrides=[*settings, matchings])
    for device in ("cpu", "cuda"):
        assert run_study(config, tmp_path / device, device=device).computed == 4
    for found, wanted in zip(rows(tmp_path / "cuda"), rows(tmp_path / "cpu"), strict=True):
        for side in "ab":
            assert found[f"failed_{side}"] == 0
            for name in ("loss", "loss_test", "accuracy_train", "accuracy_test"):
                value = wanted[f"{name}_{side}"]
                assert found[f"{name}_{side}"] == pytest.approx(value, abs=0.01), name
        for split in ("train", "test"):
            value = wanted[f"barrier_none_{split}"]
            assert found[f"barrier_none_{split}"] == pytest.approx(value, abs=0.01)


def test_gpu_sharpness_and_sparsity_are_the_cpus() -> None:
    teacher = lmc_fast.teacher(6, 3)
    w1 = lmc_fast.init_students(range(3), 8, 6, scale=0.5).w1
    w1[1, 5:] = 0
    wanted = lmc_fast.sharpness(w1, None, teacher)
    found = lmc_fast.sharpness(w1.cuda(), None, teacher)
    assert found.device.type == "cuda"
    assert_close(found, wanted, 1e-6 * wanted)
    for measure in (lmc_fast.participation_ratio, lmc_fast.alive_count, lmc_fast.hoyer):
        assert_close(measure(w1.cuda()), measure(w1), 1e-12, measure.__name__)
