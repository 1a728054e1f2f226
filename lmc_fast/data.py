# SPDX-License-Identifier: MIT
"""Teachers, synthetic inputs, and the two real data sets: digits and MNIST."""

import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from .losses import check_option
from .mnist_files import find_or_download, read_idx
from .nets import TwoLayerReLU
from .reference.population_loss import INPUTS
from .weights import check_float_dtype, check_sizes

TEACHER_KINDS = ("orthonormal", "random")


class Dataset(NamedTuple):
    """A classification data set, split.

    Attributes
    ----------
    x_train, x_test : Tensor, shape (n, d)
        Pixels scaled to [0, 1].
    y_train, y_test : int64 Tensor, shape (n,)
    name : str
    """

    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    name: str


def teacher(
    d: int,
    M: int,
    kind: str = "orthonormal",
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> TwoLayerReLU:
    """f*(x) = sum_i relu(v_i . x) with M unit vectors v_i.

    Parameters
    ----------
    d, M : int
        Input dimension and teacher width.
    kind : {"orthonormal", "random"}
        v_i a uniformly random orthonormal set (M <= d), or independent and uniform on the sphere.
    seed : int
    dtype : torch.dtype

    Returns
    -------
    TwoLayerReLU
        Without biases, ``output.weight`` all ones, parameters frozen.
    """
    check_option(kind, "kind", TEACHER_KINDS)
    check_float_dtype(torch.empty(0, dtype=dtype), "dtype")
    check_sizes(d=d, M=M)
    if kind == "orthonormal" and d < M:
        raise ValueError(
            f"M must be at most d = {d} for orthonormal vectors; got {M}. Use kind='random'"
        )
    generator = _generator("teacher", seed)
    normal = torch.randn(M, d, generator=generator, dtype=torch.float64)
    if kind == "orthonormal":
        basis, upper = torch.linalg.qr(normal.T)
        # Householder signs depend on the library; a positive diagonal makes the factor unique.
        v1 = (basis * upper.diagonal().sign()).T
    else:
        v1 = normal / normal.norm(dim=1, keepdim=True)
    net = TwoLayerReLU(d, M, bias=False, dtype=dtype)
    net.hidden.weight = torch.nn.Parameter(v1.to(dtype).contiguous(), requires_grad=False)
    net.output.weight = torch.nn.Parameter(torch.ones(1, M, dtype=dtype), requires_grad=False)
    return net


def sample_inputs(
    n: int,
    d: int,
    inputs: str = "gaussian",
    radius: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """n inputs (n, d): N(0, I_d), or uniform on the sphere of radius ``radius``."""
    check_option(inputs, "inputs", INPUTS)
    check_float_dtype(torch.empty(0, dtype=dtype), "dtype")
    check_sizes(n=n, d=d)
    if not (math.isfinite(radius) and radius > 0):
        raise ValueError(f"radius must be finite and above 0; got {radius}")
    generator = _generator("inputs", seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    if inputs == "sphere":
        x = x * (radius / x.norm(dim=1, keepdim=True))
    return x.to(dtype)


def digits(seed: int = 0, test_share: float = 0.2, dtype: torch.dtype = torch.float32) -> Dataset:
    """scikit-learn's 1,797 handwritten 8x8 digits, d = 64, ten classes.

    Parameters
    ----------
    seed : int
        Of the random split.
    test_share : float
        Share of the samples held out, in (0, 1).
    dtype : torch.dtype

    Raises
    ------
    ImportError
        Without scikit-learn.
    """
    check_float_dtype(torch.empty(0, dtype=dtype), "dtype")
    if not 0 < test_share < 1:
        raise ValueError(f"test_share must lie in (0, 1); got {test_share}")
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits data come with scikit-learn, which is not installed; "
            "pip install 'lmc_fast[studies]'"
        ) from error
    bunch = load_digits()
    x = torch.from_numpy(bunch.data).to(dtype) / 16
    y = torch.from_numpy(bunch.target).long()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    train = order[: len(x) - round(test_share * len(x))]
    test = order[len(train) :]
    return Dataset(x[train], y[train], x[test], y[test], "digits")


def mnist(
    data_dir: str | Path | None = None,
    *,
    n_train: int | None = None,
    download: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """MNIST from its four IDX files, d = 784, ten classes.

    Parameters
    ----------
    data_dir : path, optional
        Folder with the files, gzipped or not. Without it: ``$LMC_FAST_DATA``, then the user's
        cache. Each may hold the files itself or in a subfolder ``mnist``.
    n_train : int, optional
        Keep the first n_train training samples only.
    download : bool
        Fetch files that are in none of these places into the first, and check their md5.
    dtype : torch.dtype

    Raises
    ------
    FileNotFoundError
        Naming the files, the places tried, and why a download failed.
    ValueError
        For a file that is truncated or is not what its name says.

    Warns
    -----
    UserWarning
        For a file whose md5 is not MNIST's: a subset, or another data set under the same names.
    """
    check_float_dtype(torch.empty(0, dtype=dtype), "dtype")
    files = find_or_download(data_dir, download)
    x_train, y_train = _images_and_labels(files, "train", dtype)
    x_test, y_test = _images_and_labels(files, "t10k", dtype)
    if x_train.shape[1] != x_test.shape[1]:
        raise ValueError(
            f"MNIST training and test images must have one size; got d = "
            f"{x_train.shape[1]} and {x_test.shape[1]} from "
            f"{files['train-images-idx3-ubyte'].parent}"
        )
    if n_train is not None:
        if not 1 <= n_train <= len(x_train):
            raise ValueError(f"n_train must be in 1..{len(x_train)}; got {n_train}")
        x_train, y_train = x_train[:n_train].clone(), y_train[:n_train].clone()
    return Dataset(x_train, y_train, x_test, y_test, "mnist")


def _generator(stream: str, seed: int) -> torch.Generator:
    """Random numbers that students, who are drawn from ``seed`` itself, do not start from."""
    digest = hashlib.sha256(f"{stream} {seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def _images_and_labels(
    files: dict[str, Path], split: str, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    image_file = files[f"{split}-images-idx3-ubyte"]
    label_file = files[f"{split}-labels-idx1-ubyte"]
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(
            f"{image_file} and {label_file} must hold as many images as labels, and "
            f"at least one; got {len(images)} and {len(labels)}"
        )
    if int(labels.max()) > 9:
        raise ValueError(f"{label_file} must hold labels 0 to 9; got {int(labels.max())}")
    x = torch.from_numpy(images).reshape(len(images), -1).to(dtype) / 255
    return x, torch.from_numpy(labels).long()
