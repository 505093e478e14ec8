"""Where the tasks' data come from: the folder in NABLATAU_DATA, else a checked download, else one error that says both.

In the folder a set is one file, `NAME.npz` (arrays x_train, y_train, x_test, y_test; images uint8, channels last) or
`NAME.csv.gz`, or a folder of `PART.jsonl.gz`. Downloads come from the sets' own public sites, are checked against the
checksum that is published with them, and kept under NABLATAU_DATA or, without it, in the user's cache folder. Nothing
pickled is read: of CIFAR the binary edition is taken.
"""

import gzip
import hashlib
import io
import json
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nablatau.errors import DataUnavailableError

Arrays = dict[str, npt.NDArray[np.generic]]
CIFAR_SITE = "https://www.cs.toronto.edu/~kriz/"
FASHION_SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"


@dataclass(frozen=True)
class Download:
    """One file of a set: its address and the MD5 checksum published with it."""

    address: str
    md5: str


def images(name: str) -> Arrays:
    """An image set.

    Args:
        name: "fashion_mnist", "cifar10" or "cifar100".

    Returns:
        x_train, x_test: uint8 (N, H, W, C); y_train, y_test: int64 (N,).

    Raises:
        DataUnavailableError: neither in the folder nor to be downloaded; the message says how to mend either.
    """
    file = data_folder() / f"{name}.npz"
    if not file.exists():
        arrays = _download(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part.npz")
        np.savez(part, **arrays)  # type: ignore[arg-type]
        part.replace(file)
    with np.load(file, allow_pickle=False) as stored:
        return {key: stored[key] for key in ("x_train", "y_train", "x_test", "y_test")}


def table(name: str) -> list[dict[str, str]]:
    """The rows of a table `NAME.csv.gz` in the data folder.

    Raises:
        DataUnavailableError: it is not there; tables have no published checksum and are not downloaded.
    """
    import csv

    file = data_folder() / f"{name}.csv.gz"
    if not file.exists():
        raise DataUnavailableError(
            f"{name}.csv.gz is not in {data_folder()}. Set NABLATAU_DATA to a folder that holds it. It cannot be "
            "downloaded: no checksum is published for it. Tasks without a download: digits, breast_cancer, diabetes."
        )
    with gzip.open(file, "rt", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def json_lines(name: str) -> list[dict[str, Any]]:
    """The records of a part of a set of texts, `SET/PART.jsonl.gz` in the data folder, or `SET/PART.json` unpacked.

    Args:
        name: "SET/PART", such as "tofu/forget10".

    Raises:
        DataUnavailableError: it is not there; texts have no published checksum and are not downloaded.
    """
    packed, plain = data_folder() / f"{name}.jsonl.gz", data_folder() / f"{name}.json"
    if not packed.exists() and not plain.exists():
        raise DataUnavailableError(
            f"{name}.jsonl.gz is not in {data_folder()}. Set NABLATAU_DATA to a folder that holds it, or its lines in "
            f"{name}.json. It is not downloaded: no checksum is published for it. The task 'digits' needs no file."
        )
    with gzip.open(packed, "rt", encoding="utf-8") if packed.exists() else plain.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def data_folder() -> Path:
    """The folder of data sets: NABLATAU_DATA, or nablatau in the user's cache folder."""
    named = os.environ.get("NABLATAU_DATA")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nablatau"


def is_available(name: str) -> bool:
    """Whether a set lies in the data folder already."""
    return any(
        (data_folder() / f"{name}{suffix}").exists() for suffix in (".npz", ".csv.gz", "/full.jsonl.gz", "/full.json")
    )


# ---------------------------------------------------------------------- downloads


def _download(name: str) -> Arrays:
    files, read = DOWNLOADS[name]
    try:
        contents = [_fetch(each) for each in files]
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise DataUnavailableError(
            f"{name} is not in {data_folder()} (no file {name}.npz), and downloading it failed: {error}. Set "
            f"NABLATAU_DATA to a folder with {name}.npz (arrays x_train, y_train, x_test, y_test), or make "
            f"{files[0].address} reachable. The task 'digits' needs neither."
        ) from error
    return read(contents)


def _fetch(file: Download) -> bytes:
    """The content of a file, once its checksum is right."""
    with urllib.request.urlopen(file.address, timeout=60) as response:
        content: bytes = response.read()
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != file.md5:
        raise ValueError(f"{file.address} has checksum {found} instead of {file.md5}: cut off or not the file meant")
    return content


def _read_idx(contents: list[bytes]) -> Arrays:
    """Images and labels of the four files of MNIST's format."""
    pixels = [np.frombuffer(gzip.decompress(content), np.uint8, offset=16) for content in contents[::2]]
    labels = [np.frombuffer(gzip.decompress(content), np.uint8, offset=8) for content in contents[1::2]]
    x_train, x_test = (each.reshape(-1, 28, 28, 1) for each in pixels)
    return _named(x_train, labels[0], x_test, labels[1])


def _read_cifar(label_bytes: int) -> Callable[[list[bytes]], Arrays]:
    """A reader of CIFAR's binary archives: a record is its labels, the last of them meant, and its pixels."""

    def read(contents: list[bytes]) -> Arrays:
        parts: dict[bool, list[npt.NDArray[np.uint8]]] = {True: [], False: []}
        with tarfile.open(fileobj=io.BytesIO(contents[0])) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                stream = archive.extractfile(member) if member.name.endswith(".bin") else None
                if stream is not None:
                    rows = np.frombuffer(stream.read(), np.uint8).reshape(-1, label_bytes + 3072)
                    parts["test" not in Path(member.name).name].append(rows)
        train, test = np.concatenate(parts[True]), np.concatenate(parts[False])
        pixels = [rows[:, label_bytes:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) for rows in (train, test)]
        return _named(pixels[0], train[:, label_bytes - 1], pixels[1], test[:, label_bytes - 1])

    return read


def _named(
    x_train: npt.NDArray[np.uint8],
    y_train: npt.NDArray[np.uint8],
    x_test: npt.NDArray[np.uint8],
    y_test: npt.NDArray[np.uint8],
) -> Arrays:
    labels = {"y_train": y_train.astype(np.int64), "y_test": y_test.astype(np.int64)}
    return {"x_train": x_train, "x_test": x_test, **labels}


DOWNLOADS: dict[str, tuple[list[Download], Callable[[list[bytes]], Arrays]]] = {
    "fashion_mnist": (
        [
            Download(FASHION_SITE + "train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            Download(FASHION_SITE + "train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
            Download(FASHION_SITE + "t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
            Download(FASHION_SITE + "t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
        ],
        _read_idx,
    ),
    "cifar10": (
        [Download(CIFAR_SITE + "cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")],
        _read_cifar(1),
    ),
    "cifar100": (
        [Download(CIFAR_SITE + "cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8")],
        _read_cifar(2),
    ),
}
