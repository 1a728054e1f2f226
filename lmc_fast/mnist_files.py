# SPDX-License-Identifier: MIT
"""Where MNIST's four IDX files lie, how to fetch them, and how to read one."""

import gzip
import hashlib
import os
import struct
import tempfile
import urllib.request
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# md5 of the uncompressed files: gzip streams of the same content differ between mirrors.
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
    """The four files by name, from the first place that has all of them, or freshly fetched.

    Raises
    ------
    FileNotFoundError
        Naming what is missing, every place tried, and why a download failed.
    """
    folders = places(data_dir)
    for folder in folders:
        for inside in (folder, folder / "mnist"):
            found = _files_in(inside)
            if len(found) == len(MD5):
                return found
    tried = ", ".join(str(folder) for folder in folders)
    reason = "downloading was switched off"
    if download:
        target = folders[0]
        try:
            present = _files_in(target)
            for name in MD5:
                if name not in present:
                    _download(name, target)
            return _files_in(target)
        except OSError as error:
            reason = f"downloading failed: {error}"
    missing = ", ".join(f"{name}[.gz]" for name in MD5 if name not in _files_in(folders[0]))
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
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()


def _files_in(folder: Path) -> dict[str, Path]:
    found = {}
    for name in MD5:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                found[name] = candidate
                break
    return found


def _download(name: str, folder: Path) -> None:
    """Fetch one file from the first mirror that has the right one; OSError if none does."""
    failures = []
    for mirror in MIRRORS:
        address = f"{mirror}{name}.gz"
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_SECONDS) as response:
                packed = response.read()
            digest = hashlib.md5(gzip.decompress(packed), usedforsecurity=False).hexdigest()
        except (OSError, EOFError, zlib.error) as error:
            failures.append(f"{address}: {error}")
            continue
        if digest != MD5[name]:
            failures.append(f"{address}: md5 is {digest}, should be {MD5[name]}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed once complete, so that a reader never sees half a file.
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as partial:
            try:
                partial.write(packed)
                partial.close()
                os.replace(partial.name, folder / f"{name}.gz")
            except OSError:
                os.unlink(partial.name)
                raise
        return
    raise OSError("; ".join(failures))
