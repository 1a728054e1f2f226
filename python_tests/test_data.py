# SPDX-License-Identifier: MIT
import gzip
import hashlib
import http.client
import math
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from compare import assert_close, rounding

from lmc_fast import digits, mnist, mnist_files, population_loss, sample_inputs, teacher

NAMES = list(mnist_files.MD5)
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"


def idx(array):
    array = np.asarray(array, dtype=np.uint8)
    return (
        bytes((0, 0, 8, array.ndim))
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Small MNIST files, known by their md5: five training, two test images of 2 x 3 pixels."""
    for split, count in (("train", 5), ("t10k", 2)):
        pixels = np.arange(count * 6).reshape(count, 2, 3) * 5
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx(pixels))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.arange(count) + 3))
    sums = {name: hashlib.md5((tmp_path / name).read_bytes()).hexdigest() for name in NAMES}
    monkeypatch.setattr(mnist_files, "MD5", sums)
    return tmp_path


@pytest.fixture
def elsewhere(monkeypatch, tmp_path_factory):
    """No data in the environment or the user's cache."""
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.delenv("LMC_FAST_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    return cache


def test_orthonormal_teacher():
    net = teacher(6, 4, seed=3)
    v1 = net.hidden.weight
    assert_close(v1 @ v1.T, torch.eye(4), rounding(20))
    assert (net.output.weight == 1).all()
    assert net.hidden.bias is None
    assert not any(p.requires_grad for p in net.parameters())
    assert_close(teacher(6, 4, seed=3).hidden.weight, v1, 0)
    assert not torch.equal(teacher(6, 4, seed=4).hidden.weight, v1)
    assert_close(population_loss(v1, None, net), torch.zeros(1), rounding(50))


def test_random_teacher_has_unit_neurons():
    v1 = teacher(3, 8, kind="random").hidden.weight
    assert_close(v1.norm(dim=1), torch.ones(8), rounding(8))
    assert teacher(3, 8, "random", dtype=torch.float32).hidden.weight.dtype == torch.float32


def test_inputs_have_the_moments_of_their_distribution():
    n, d, radius = 50_000, 3, 2.0
    x = sample_inputs(n, d, seed=1)
    # Second moments: variance 2 on the diagonal, 1 off it.
    assert_close(x.T @ x / n, torch.eye(d), 5 * math.sqrt(2 / n))
    on_sphere = sample_inputs(n, d, "sphere", radius, seed=1)
    assert_close(on_sphere.norm(dim=1), torch.full((n,), radius), rounding(8, radius))
    assert_close(on_sphere.T @ on_sphere / n, torch.eye(d) * radius**2 / d, 5 * radius**2 / n**0.5)
    assert_close(sample_inputs(n, d, seed=1), x, 0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: teacher(3, 4), ValueError, "at most d = 3.*kind='random'"),
        (lambda: teacher(3, 2, "square"), ValueError, "'orthonormal', 'random'; got 'square'"),
        (lambda: teacher(0, 0), ValueError, "d must be at least 1; got 0"),
        (lambda: teacher(3, 2, dtype=torch.int64), TypeError, "float32 or float64"),
        (lambda: sample_inputs(0, 3), ValueError, "n must be at least 1; got 0"),
        (lambda: sample_inputs(2, 3, "cube"), ValueError, "'gaussian', 'sphere'"),
        (lambda: sample_inputs(2, 3, "sphere", 0.0), ValueError, "radius"),
        (lambda: digits(test_share=1.0), ValueError, "test_share"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_digits():
    data = digits(seed=1)
    assert data.x_train.shape == (1438, 64)
    assert data.x_test.shape == (359, 64)
    assert data.x_train.dtype == torch.float32
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    assert data.y_train.unique().tolist() == list(range(10))
    again, other = digits(seed=1), digits(seed=2)
    assert torch.equal(again.x_test, data.x_test)
    assert not torch.equal(other.y_test, data.y_test)
    # The two parts are the whole data set.
    whole = torch.cat([data.x_train, data.x_test]).sum(0)
    assert_close(whole, torch.cat([other.x_train, other.x_test]).sum(0), 1e-2)


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'lmc_fast\[studies\]'"):
        digits()


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_reads_idx_files(folder, packed):
    if packed:
        for name in NAMES:
            (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
            (folder / name).unlink()
    data = mnist(folder)
    assert data.x_train.shape == (5, 6)
    assert_close(data.x_train[1], torch.arange(6, 12) * 5 / 255, 1e-7)
    assert data.y_train.tolist() == [3, 4, 5, 6, 7]
    assert data.y_test.tolist() == [3, 4]
    assert data.name == "mnist"
    assert len(mnist(folder, n_train=2).x_train) == 2
    with pytest.raises(ValueError, match=r"n_train must be in 1..5; got 6"):
        mnist(folder, n_train=6)


def test_mnist_looks_in_the_environment_then_the_cache(folder, elsewhere, monkeypatch):
    (elsewhere / "lmc_fast").mkdir()
    folder.rename(elsewhere / "lmc_fast" / "mnist")
    assert len(mnist().x_train) == 5
    monkeypatch.setenv("LMC_FAST_DATA", str(elsewhere / "nothing"))
    assert len(mnist(download=False).x_train) == 5
    (elsewhere / "lmc_fast" / "mnist").rename(elsewhere / "named")
    monkeypatch.setenv("LMC_FAST_DATA", str(elsewhere / "named"))
    assert len(mnist().x_train) == 5


def test_missing_files_name_the_files_and_places(folder, elsewhere, monkeypatch):
    monkeypatch.setenv("LMC_FAST_DATA", str(folder))
    (folder / NAMES[2]).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        mnist(download=False)
    message = str(caught.value)
    for part in (f"{NAMES[2]}[.gz]", str(folder), str(elsewhere / "lmc_fast"), "LMC_FAST_DATA"):
        assert part in message
    assert NAMES[0] not in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "announces 30 bytes.* but 29 follow"),
        (lambda content: content + b"x", "announces 30 bytes.* but 31 follow"),
        (lambda content: content[:3], "first bytes are 00 00 08"),
        (lambda content: b"", "first bytes are missing"),
        (lambda content: b"<html>" + content, "first bytes are 3c 68 74 6d"),
        (lambda content: content[:4] + b"\xff" * 12 + content[16:], "but 30 follow"),
    ],
)
def test_damaged_files_are_named(folder, damage, message):
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path}.*{message}"):
        mnist(folder)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b"no gzip", lambda b: b[:12] + b[15:]]
)
def test_damaged_gzip_files_are_named(folder, damage):
    path = folder / "train-images-idx3-ubyte"
    packed = gzip.compress(path.read_bytes())
    path.unlink()
    path = path.with_name(f"{path.name}.gz")
    path.write_bytes(damage(packed))
    with pytest.raises(ValueError, match=f"{path}.*(gzip stream is damaged|follow)"):
        mnist(folder)


@pytest.mark.filterwarnings("ignore:.*is not MNIST's file")
def test_labels_must_fit_the_images(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx([1, 2]))
    with pytest.raises(ValueError, match=r"as many images as labels.*got 5 and 2"):
        mnist(folder)
    (folder / "train-labels-idx1-ubyte").write_bytes(idx([1, 2, 3, 4, 10]))
    with pytest.raises(ValueError, match="labels 0 to 9; got 10"):
        mnist(folder)


def serve(folder, monkeypatch):
    """Let downloads come from ``folder`` through file addresses."""
    source = folder / "served"
    source.mkdir()
    for name in NAMES:
        (source / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
    monkeypatch.setattr(mnist_files, "MIRRORS", (f"{source.as_uri()}/",))


def test_missing_files_are_downloaded_once(folder, elsewhere, monkeypatch):
    serve(folder, monkeypatch)
    assert len(mnist().x_train) == 5
    cached = elsewhere / "lmc_fast"
    assert sorted(path.name for path in cached.iterdir()) == sorted(f"{name}.gz" for name in NAMES)
    monkeypatch.setattr(mnist_files, "MIRRORS", ())
    assert len(mnist().x_train) == 5


def test_only_files_that_are_nowhere_are_downloaded(folder, elsewhere, monkeypatch):
    serve(folder, monkeypatch)
    named, cached = elsewhere / "named", elsewhere / "lmc_fast"
    cached.mkdir()
    for name in NAMES[:3]:
        (folder / name).rename(cached / name)
    monkeypatch.setenv("LMC_FAST_DATA", str(named))
    assert len(mnist().x_train) == 5
    assert [path.name for path in named.iterdir()] == [f"{NAMES[3]}.gz"]


def test_a_cut_connection_goes_on_to_the_second_mirror(folder, elsewhere, monkeypatch):
    serve(folder, monkeypatch)
    (good,) = mnist_files.MIRRORS
    monkeypatch.setattr(mnist_files, "MIRRORS", ("http://cut.invalid/", good))
    fetch = mnist_files.urllib.request.urlopen

    def cut(address, timeout):
        if address.startswith("http:"):
            raise http.client.IncompleteRead(b"half")
        return fetch(address, timeout=timeout)

    monkeypatch.setattr(mnist_files.urllib.request, "urlopen", cut)
    assert len(mnist().x_train) == 5
    monkeypatch.setattr(mnist_files, "MIRRORS", ("http://cut.invalid/",))
    with pytest.raises(FileNotFoundError, match=r"downloading failed: .*IncompleteRead"):
        mnist(elsewhere / "empty")


@pytest.mark.parametrize("packed", [False, True])
def test_another_data_set_under_the_same_names_is_not_taken_silently(folder, packed):
    content = idx(np.zeros((5, 2, 3)))
    (folder / NAMES[0]).write_bytes(content)
    if packed:
        (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(content))
        (folder / NAMES[0]).unlink()
    with pytest.warns(UserWarning, match=f"{NAMES[0]}.* is not MNIST's file .*Fashion-MNIST"):
        assert (mnist(folder).x_train == 0).all()


def test_a_download_with_another_checksum_is_refused(folder, elsewhere, monkeypatch):
    serve(folder, monkeypatch)
    monkeypatch.setattr(mnist_files, "MD5", dict.fromkeys(NAMES, "0" * 32))
    with pytest.raises(FileNotFoundError, match=r"downloading failed: .*md5 is"):
        mnist()
    assert not (elsewhere / "lmc_fast").exists()


def test_real_mnist():
    if "LMC_FAST_DATA" not in os.environ and not SHARED.is_dir():
        pytest.skip("MNIST is absent: set LMC_FAST_DATA to a folder with its four files")
    data = mnist(None if "LMC_FAST_DATA" in os.environ else SHARED, download=False)
    assert data.x_train.shape == (60_000, 784)
    assert data.x_test.shape == (10_000, 784)
    assert (data.x_train.min(), data.x_train.max()) == (0, 1)
    # The published class counts of the training set.
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.y_train.bincount().tolist() == counts
