"""Data sets: the folder first, a checked download second, one error that says both third."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from nablatau.errors import DataUnavailableError
from nablatau.tasks import sources
from nablatau.tasks.sources import Download, images, json_lines, table


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NABLATAU_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


def serve(monkeypatch: pytest.MonkeyPatch, name: str, files: list[Path], read: object) -> None:
    downloads = [
        Download(file.as_uri(), hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()) for file in files
    ]
    monkeypatch.setitem(sources.DOWNLOADS, name, (downloads, read))


def test_the_folder_comes_first(folder: Path) -> None:
    folder.mkdir()
    arrays = {"x_train": np.zeros((3, 4, 4, 1), np.uint8), "x_test": np.ones((2, 4, 4, 1), np.uint8)}
    np.savez(folder / "cifar10.npz", **arrays, y_train=np.arange(3), y_test=np.arange(2), classes=np.array(["a"]))
    found = images("cifar10")
    assert sorted(found) == ["x_test", "x_train", "y_test", "y_train"]
    assert found["x_train"].shape == (3, 4, 4, 1)


def test_idx_files_are_downloaded_checked_and_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28))
    parts = [pixels, np.arange(5), pixels[:2], np.arange(2)]
    files = [tmp_path / f"part{i}.gz" for i in range(4)]
    for file, part in zip(files, parts, strict=True):
        file.write_bytes(idx(part))
    serve(monkeypatch, "fashion_mnist", files, sources._read_idx)
    found = images("fashion_mnist")
    assert (found["x_train"][..., 0] == pixels).all()
    assert found["y_train"].tolist() == [0, 1, 2, 3, 4]
    for file in files:
        file.unlink()
    assert (images("fashion_mnist")["x_train"] == found["x_train"]).all()
    assert [file.name for file in folder.iterdir()] == ["fashion_mnist.npz"]


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_cifar_is_read_from_the_binary_edition(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label_bytes: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3072)).astype(np.uint8)
    labels = np.arange(6 * label_bytes, dtype=np.uint8).reshape(6, label_bytes)
    rows = np.hstack([labels, pixels])
    file = tmp_path / "cifar.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name, part in (
            ("data_batch_1.bin", rows[:2]),
            ("data_batch_2.bin", rows[2:4]),
            ("test_batch.bin", rows[4:]),
        ):
            info = tarfile.TarInfo(f"cifar/{name}")
            info.size = part.nbytes
            archive.addfile(info, io.BytesIO(part.tobytes()))
    serve(monkeypatch, "cifar10", [file], sources._read_cifar(label_bytes))
    found = images("cifar10")
    assert found["y_train"].tolist() == labels[:4, -1].tolist()
    assert found["y_test"].tolist() == labels[4:, -1].tolist()
    assert found["x_train"][1, 3, 5].tolist() == pixels[1].reshape(3, 32, 32)[:, 3, 5].tolist()


def test_a_wrong_checksum_is_refused_and_nothing_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cifar.tar.gz"
    file.write_bytes(b"half a file")
    monkeypatch.setitem(sources.DOWNLOADS, "cifar10", ([Download(file.as_uri(), "0" * 32)], sources._read_cifar(1)))
    with pytest.raises(DataUnavailableError, match=r"has checksum .* instead of 0000") as caught:
        images("cifar10")
    assert "Set NABLATAU_DATA to a folder with cifar10.npz" in str(caught.value)
    assert not folder.exists()


def test_one_error_says_both_ways(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Download((tmp_path / "gone").as_uri(), "")
    monkeypatch.setitem(sources.DOWNLOADS, "cifar10", ([missing], sources._read_cifar(1)))
    with pytest.raises(DataUnavailableError, match=r"downloading it failed.*Set NABLATAU_DATA.*reachable"):
        images("cifar10")
    with pytest.raises(DataUnavailableError, match=r"adult\.csv\.gz is not in"):
        table("adult")


def test_without_the_variable_the_cache_folder_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NABLATAU_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sources.data_folder() == tmp_path / "nablatau"


def test_parts_of_texts_are_read_packed_or_not(folder: Path) -> None:
    (folder / "tofu").mkdir(parents=True)
    (folder / "tofu" / "full.jsonl.gz").write_bytes(gzip.compress('{"question": "é"}\n\n{"question": "b"}\n'.encode()))
    (folder / "tofu" / "other.json").write_text('{"question": "é"}\n', encoding="utf-8")
    assert json_lines("tofu/full") == [{"question": "é"}, {"question": "b"}]
    assert json_lines("tofu/other") == [{"question": "é"}]
    with pytest.raises(
        DataUnavailableError, match=r"tofu/third\.jsonl\.gz is not in .* or its lines in tofu/third\.json"
    ):
        json_lines("tofu/third")
