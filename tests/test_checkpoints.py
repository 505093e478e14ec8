"""Weights come back bit for bit, nothing pickled is read, and folders are there whole or not at all."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nablatau.checkpoints import load_weights, save_weights, whole_folder
from nablatau.errors import CheckpointError
from nablatau.fingerprints import weights_digest
from small import small_network


class Tied(nn.Module):
    """Two layers that share one weight, as language models' embeddings and heads do."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 4), nn.Linear(4, 5, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize("build", [lambda: small_network(batch_norm=True), Tied])
def test_weights_come_back_bit_for_bit(build: type[nn.Module], tmp_path: Path) -> None:
    model, other = build(), build()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(1)
    save_weights(model, tmp_path / "m.safetensors")
    assert weights_digest(load_weights(other, tmp_path / "m.safetensors")) == weights_digest(model)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    model = small_network()
    with pytest.raises(CheckpointError, match="There is no file"):
        load_weights(model, tmp_path / "none.safetensors")
    torch.save(model.state_dict(), tmp_path / "m.pt")
    with pytest.raises(CheckpointError, match="may hold a pickle, which runs code"):
        load_weights(model, tmp_path / "m.pt")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(CheckpointError, match="damaged"):
        load_weights(model, tmp_path / "cut.safetensors")
    save_weights(nn.Linear(2, 2), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        load_weights(model, tmp_path / "other.safetensors")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail_half_way() -> None:
        with whole_folder(tmp_path / "out") as part:
            (part / "first").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []
    with whole_folder(tmp_path / "out") as part:
        (part / "first").write_text("x")
        assert not (tmp_path / "out").exists()
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["first"]
    with (
        pytest.raises(CheckpointError, match="exists already, and nothing is overwritten"),
        whole_folder(tmp_path / "out"),
    ):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot be made"), whole_folder(tmp_path / "file" / "out"):
        pass


def test_a_killed_run_leaves_nothing_under_the_name(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from nablatau.checkpoints import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as part:\n"
        "    (part / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert all(name.startswith(".out.") for name in os.listdir(tmp_path))
    with whole_folder(tmp_path / "out"):  # what the killed run left does not stand in the way
        pass
    assert (tmp_path / "out").exists()
