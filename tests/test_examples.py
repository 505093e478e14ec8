"""The examples run as printed, and the README prints them as they are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nablatau.tasks.sources import is_available

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "fashion_mnist_by_ids.py"


def test_a_users_own_network_in_twelve_lines(tmp_path: Path) -> None:
    if not is_available("fashion_mnist"):
        pytest.skip("fashion_mnist is not in NABLATAU_DATA")
    alone = os.environ | {"OMP_NUM_THREADS": "1"}  # beside another test process more threads only wait for each other
    command = [sys.executable, str(SCRIPT)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=alone)
    assert done.returncode == 0, done.stderr
    assert "On the 180 forgotten records" in done.stdout
    assert (tmp_path / "nablatau-fashion" / "report.html").exists()


def test_the_readme_prints_the_script_as_it_is() -> None:
    text = SCRIPT.read_text()
    code = text[text.index("import torch") :].strip()
    assert len([line for line in code.splitlines() if line]) <= 12
    assert code in (ROOT / "README.md").read_text()
