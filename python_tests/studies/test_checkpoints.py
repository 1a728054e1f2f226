# SPDX-License-Identifier: MIT
"""Weights on disk: whole or absent, and read without running code."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lmc_fast import TwoLayerReLU, as_weights
from lmc_fast.studies.checkpoints import (
    checkpoint_metadata,
    load_checkpoint,
    remove_stale,
    save_tensors,
)
from lmc_fast.studies.errors import CheckpointError


@pytest.fixture
def net() -> TwoLayerReLU:
    torch.manual_seed(0)
    return TwoLayerReLU(3, 4, c=2)


Writer = Callable[[TwoLayerReLU, Path], Path]


def as_safetensors(net: TwoLayerReLU, folder: Path) -> Path:
    save_file(net.state_dict(), folder / "net.safetensors")
    return folder / "net.safetensors"


def as_torch(net: TwoLayerReLU, folder: Path) -> Path:
    torch.save(net.state_dict(), folder / "net.pt")
    return folder / "net.pt"


def as_nested(net: TwoLayerReLU, folder: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": net.state_dict()}, folder / "net.pt")
    return folder / "net.pt"


def as_sequential(net: TwoLayerReLU, folder: Path) -> Path:
    layers = nn.Sequential(net.hidden, nn.ReLU(), net.output)
    torch.save(layers.state_dict(), folder / "net.pt")
    return folder / "net.pt"


@pytest.mark.parametrize("write", [as_safetensors, as_torch, as_nested, as_sequential])
def test_networks_come_back_bit_for_bit(net: TwoLayerReLU, tmp_path: Path, write: Writer) -> None:
    for found, wanted in zip(load_checkpoint(write(net, tmp_path)), as_weights(net), strict=True):
        assert found is not None
        assert wanted is not None
        assert torch.equal(found, wanted)


def test_one_student_of_many_is_picked_by_its_seed(tmp_path: Path) -> None:
    w1, w2 = torch.randn(2, 4, 3), torch.ones(2, 1, 4)
    path = tmp_path / "many.safetensors"
    save_tensors(path, {"w1": w1, "w2": w2, "seeds": torch.tensor([6, 9])}, {"about": "x"})
    assert torch.equal(load_checkpoint(path).w1, w1)
    assert torch.equal(load_checkpoint(tmp_path / "many.safetensors@9").w1[0], w1[1])
    assert checkpoint_metadata(tmp_path / "many.safetensors@9") == {"about": "x"}
    with pytest.raises(CheckpointError, match="holds no student of seed 7; its seeds are 6 to 9"):
        load_checkpoint(tmp_path / "many.safetensors@7")


class Bomb:
    """Unpickles into a call."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, how: str) -> None:
    path, trace = tmp_path / "net.pt", tmp_path / "it-ran"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Bomb(trace)))
    else:
        torch.save({"hidden.weight": Bomb(trace)}, path)
    with pytest.raises(CheckpointError, match=r"net\.pt was not loaded: it holds code or objects"):
        load_checkpoint(path)
    assert not trace.exists()


def write_text(path: Path) -> None:
    path.write_text("not a checkpoint at all")


def write_nothing(path: Path) -> None:
    path.touch()


def write_other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("poem.txt", "roses are red")


def write_table(path: Path) -> None:
    path.write_text("epoch,loss\n1,0.5\n2,0.25\n")


def write_log(path: Path) -> None:
    path.write_text("epoch 1 loss 0.5\nepoch 2 loss 0.25\n")


def write_yaml(path: Path) -> None:
    path.write_text("lr: 0.1\nsteps: 20\n")


FOREIGN = [write_text, write_nothing, write_other_zip, write_table, write_log, write_yaml]


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("write", FOREIGN)
def test_foreign_files_are_refused(
    tmp_path: Path, suffix: str, write: Callable[[Path], None]
) -> None:
    path = tmp_path / f"foreign{suffix}"
    write(path)
    with pytest.raises(CheckpointError, match=r"is not a readable|was not loaded") as caught:
        load_checkpoint(path)
    assert "foreign" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_cut_anywhere_is_refused(net: TwoLayerReLU, tmp_path: Path, legacy: bool) -> None:
    """Every length ends in another exception of torch."""
    path = tmp_path / "net.pt"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=not legacy)
    whole = path.read_bytes()
    for length in range(0, len(whole), 5):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"is not a readable|was not loaded"):
            load_checkpoint(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("write", [as_safetensors, as_torch])
def test_a_file_that_may_not_be_read_is_named(
    net: TwoLayerReLU, tmp_path: Path, write: Writer
) -> None:
    path = write(net, tmp_path)
    path.chmod(0)
    with pytest.raises(CheckpointError, match=rf"{path.name} is not readable: permission denied"):
        load_checkpoint(path)


@pytest.mark.parametrize("seeds", [torch.tensor([6, 9]), torch.tensor(6), 6, None])
def test_a_seed_of_a_file_that_holds_no_stack(tmp_path: Path, seeds: object) -> None:
    torch.save({"w1": torch.ones(4, 3), "w2": torch.ones(1, 4), "seeds": seeds}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"is not a stack of as many|it names no seeds"):
        load_checkpoint(tmp_path / "a.pt@6")


def test_a_truncated_file_is_refused(net: TwoLayerReLU, tmp_path: Path) -> None:
    for write in (as_safetensors, as_torch):
        path = write(net, tmp_path)
        path.write_bytes(path.read_bytes()[:-40])
        with pytest.raises(CheckpointError, match="is not a readable"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "must hold a state_dict; got list"),
        ({"encoder.weight": torch.ones(2, 2)}, "net.pt must be a state_dict with"),
        ({"w1": torch.full((2, 2), float("nan")), "w2": torch.ones(1, 2)}, "must be finite"),
        ({"w1": torch.ones(2, 3), "w2": torch.ones(1, 4)}, "w2 must be"),
        ({"w1": torch.eye(3).to_sparse(), "w2": torch.ones(1, 3)}, "w1 must be a dense tensor"),
        ({"w1": torch.ones(2, 3).half(), "w2": torch.ones(1, 2).half()}, "float32 or float64"),
    ],
)
def test_what_is_no_two_layer_network_is_named(
    tmp_path: Path, content: object, message: str
) -> None:
    path = tmp_path / "net.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint .*gone\.pt"):
        load_checkpoint(tmp_path / "gone.pt")


def test_only_old_leftovers_are_removed(tmp_path: Path) -> None:
    """A young one may belong to a process that is still writing it."""
    old, young, whole = (tmp_path / name for name in ("a.1.partial", "b.2.partial", "c"))
    for path in (old, young, whole):
        path.touch()
    for path in (old, whole):
        os.utime(path, (0, 0))
    remove_stale(tmp_path)
    assert sorted(tmp_path.iterdir()) == [young, whole]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "net.safetensors"
    save_tensors(path, {"w1": torch.zeros(1, 2)}, {})
    before = path.read_bytes()

    def fails(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        save_tensors(path, {"w1": torch.ones(1, 2)}, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
