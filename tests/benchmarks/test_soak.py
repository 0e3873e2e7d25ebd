"""Rounds of kills end as an undisturbed run, and a round that does not is told."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_killed_path_ends_as_an_undisturbed_one() -> None:
    command = [sys.executable, "-m", "benchmarks.soak", "--rounds", "1", "--every", "1000"]
    done = subprocess.run(
        [*command, "--paths", "deepfm"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    path, rounds, kills, _, otherwise = done.stdout.splitlines()[-1].split()
    assert (path, rounds, otherwise) == ("deepfm", "2", "0")
    assert int(kills) > 0
