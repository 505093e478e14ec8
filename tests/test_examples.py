"""The examples run as printed, on less data than they print, and the README prints them as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nablatau.tasks.sources import is_available

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "fashion_mnist_by_ids.py"
SMALLER = {
    '"train", 0, 6000': '"train", 0, 600',
    '"test", 0, 2000': '"test", 0, 400',
    '"test", 2000, 10000': '"test", 400, 800',
    "range(25)": "range(5)",
}
"""What the user's model is trained on here, in place of what the example takes half a minute for."""


def test_a_users_own_network_in_twelve_lines(tmp_path: Path) -> None:
    if not is_available("fashion_mnist"):
        pytest.skip("fashion_mnist is not in NABLATAU_DATA")
    model = (SCRIPT.parent / "fashion_model.py").read_text()
    for whole, part in SMALLER.items():
        assert model.count(whole) == 1
        model = model.replace(whole, part)
    (tmp_path / "fashion_model.py").write_text(model)
    (tmp_path / SCRIPT.name).write_text(SCRIPT.read_text())
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # beside another test process more threads only wait for each other
    command = [sys.executable, SCRIPT.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    assert "On the 180 forgotten records" in done.stdout
    assert (tmp_path / "nablatau-fashion" / "report.html").exists()


def test_the_readme_prints_the_script_as_it_is() -> None:
    text = SCRIPT.read_text()
    code = text[text.index("import torch") :].strip()
    assert len([line for line in code.splitlines() if line]) <= 12
    assert code in (ROOT / "README.md").read_text()
