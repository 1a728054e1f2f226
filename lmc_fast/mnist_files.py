# SPDX-License-Identifier: MIT
"""Where MNIST's four IDX files lie, how to fetch them, and how to read one."""

import gzip
import hashlib
import http.client
import os
import struct
import tempfile
import urllib.request
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# md5 of the uncompressed content: gzip streams of the same content differ between mirrors.
MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
TIMEOUT_SECONDS = 20


def find_or_download(data_dir: str | Path | None, download: bool) -> dict[str, Path]:
    """The four files by name, from the first place that has all of them.

    Where none has, each file comes from the first place that has it, and what is nowhere is
    fetched into the first place.

    Raises
    ------
    FileNotFoundError
        Naming what is missing, every place tried, and why a download failed.
    """
    folders = places(data_dir)
    present: dict[str, Path] = {}
    for folder in folders:
        for inside in (folder, folder / "mnist"):
            found = _files_in(inside)
            if len(found) == len(MD5):
                return found
            present = found | present
    reason = "downloading was switched off"
    if download:
        try:
            for name in MD5:
                if name not in present:
                    present[name] = _download(name, folders[0])
            return present
        except OSError as error:
            reason = f"downloading failed: {error}"
    missing = ", ".join(f"{name}[.gz]" for name in MD5 if name not in present)
    tried = ", ".join(str(folder) for folder in folders)
    raise FileNotFoundError(
        f"the MNIST files {missing} were not found in {tried} (or a subfolder mnist), and "
        f"{reason}. Put them into a folder and pass it as data_dir (--data-dir) or in LMC_FAST_DATA"
    )


def places(data_dir: str | Path | None) -> list[Path]:
    """Where to look: ``data_dir`` alone if given, else $LMC_FAST_DATA, then the user's cache."""
    if data_dir is not None:
        return [Path(data_dir)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmc_fast"
    named = os.environ.get("LMC_FAST_DATA")
    return [Path(named), cache] if named else [cache]


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes with that many dimensions; gzipped if its name ends in .gz.

    Warns if it has the name of one of MNIST's files and another content: it may be a subset made on
    purpose, or another data set that uses the same names, such as Fashion-MNIST.

    Raises
    ------
    ValueError
        If the file is truncated, too long, or something else.
    """
    wanted = f"{path} must be an IDX file of bytes with {dimensions} dimension(s)"
    remedy = "Delete it to have it fetched again, or put a good copy there"
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as stream:
            content = stream.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{wanted}; its gzip stream is damaged ({error}). {remedy}") from error
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(
            f"{wanted}; its first bytes are {content[:4].hex(' ') or 'missing'}. {remedy}"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    size = int(np.prod(shape, dtype=object))
    if len(content) != header + size:
        raise ValueError(
            f"{wanted}; its header announces {size} bytes of shape {shape}, but "
            f"{len(content) - header} follow. {remedy}"
        )
    name = path.name.removesuffix(".gz")
    if name in MD5 and _md5(content) != MD5[name]:
        warnings.warn(
            f"{path} is not MNIST's file of that name: the md5 of its content is not {MD5[name]}. "
            "Is it a subset, or another data set such as Fashion-MNIST?",
            stacklevel=4,  # the caller of lmc_fast.mnist
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def _files_in(folder: Path) -> dict[str, Path]:
    found = {}
    for name in MD5:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                found[name] = candidate
                break
    return found


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _download(name: str, folder: Path) -> Path:
    """Fetch one file from the first mirror that has the right one; OSError if none does."""
    failures = []
    for mirror in MIRRORS:
        address = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response:
                packed = response.read()
            digest = _md5(gzip.decompress(packed))
        # HTTPException: a connection that was cut, among others.
        except (OSError, http.client.HTTPException, EOFError, zlib.error) as error:
            failures.append(f"{address}: {error!r}")
            continue
        if digest != MD5[name]:
            failures.append(f"{address}: md5 is {digest}, should be {MD5[name]}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.gz"
        # Renamed once complete, so that a reader never sees half a file.
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as partial:
            try:
                partial.write(packed)
                partial.close()
                os.replace(partial.name, path)
            except OSError:
                os.unlink(partial.name)
                raise
        return path
    raise OSError("; ".join(failures))
