"""PySpark, installed apart where it is not there, and whether Java is."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("PYSPARK_FOLDER", PROJECT / ".venv" / "pyspark"))
REQUIREMENT = "pyspark>=4.0"
LOWEST_JAVA = 17
PIP_SECONDS = 900


def java_version() -> int:
    """The first number of Java's version; 0 where there is none."""
    java = shutil.which("java")
    if java is None:
        return 0
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    quoted = done.stderr.partition('"')[2]
    return int(quoted.partition(".")[0] or 0) if quoted[:1].isdigit() else 0


needs_java = pytest.mark.skipif(
    java_version() < LOWEST_JAVA, reason=f"Spark needs Java {LOWEST_JAVA} or newer"
)


def provide_pyspark() -> Path | None:
    """A folder to import PySpark from, made at the first call; None where it is installed."""
    if find_spec("pyspark") is not None:
        return None
    if not (FOLDER / "installed").exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(FOLDER)]
        done = subprocess.run(
            [*command, REQUIREMENT],
            capture_output=True,
            text=True,
            timeout=PIP_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"pip could not install {REQUIREMENT}: {done.stderr.strip()[-300:]}")
        (FOLDER / "installed").touch()
    return FOLDER
