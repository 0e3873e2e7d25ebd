"""Processor time until a command does something: its first node, or the word that refuses it.

python -m benchmarks.start_up [--pairs 9] [--beside ../other_checkout]

Each command runs in a copy of the configuration where an earlier run has left MLflow's database
and the encoded splits, and is ended there. With `--beside` another checkout's commands run in turn
with this one's. Linux only.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.process_tree import cpu_seconds

PROJECT = Path(__file__).parents[1]
# Of each command its arguments, and what its first line of use begins with.
COMMANDS = {
    "first node of preprocess": (["--pipeline=preprocess"], "provide_raw_log"),
    "first node of train": (["--pipeline=train"], "train_single_phase"),
    "refusal of a setting": (["--params", "trainin.lr=0.001"], "Error:"),
    "refusal of a pipeline": (["--pipeline=preproces"], "Error:"),
}


class Checkout:
    """A checkout's code, and a folder that its commands run in.

    Args:
        code: The checkout's folder.
        folder: An empty one.
    """

    def __init__(self, code: Path, folder: Path) -> None:
        self._folder = folder
        self._environment = os.environ | {"PYTHONPATH": str(code / "src"), "DO_NOT_TRACK": "true"}
        shutil.copytree(code / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
        shutil.copy(code / "pyproject.toml", folder)
        (folder / "conf" / "local").mkdir()
        (folder / "src").mkdir()
        self._start(["--pipeline=preprocess"]).communicate()

    def seconds(self, arguments: list[str], awaited: str) -> float:
        """Processor time of a command until it says what is awaited.

        Raises:
            RuntimeError: It never does.
        """
        process = self._start(arguments)
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            for line in process.stdout:
                if awaited in line:
                    return cpu_seconds(process.pid)
        finally:
            process.kill()
            process.communicate()
        raise RuntimeError(f"kedro run {' '.join(arguments)} never said {awaited!r}")

    def _start(self, arguments: list[str]) -> subprocess.Popen[str]:
        return subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "kedro", "run", "--env", "test", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def main() -> None:
    """Read the command line, measure, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--beside", type=Path, help="another checkout of this project")
    asked = parser.parse_args()
    codes = {"this": PROJECT} | ({"beside": asked.beside.resolve()} if asked.beside else {})
    table = Table("processor seconds", *codes, title=f"medians of {asked.pairs}, lowest to highest")
    with tempfile.TemporaryDirectory() as scratch:
        checkouts = []
        for name, code in codes.items():
            (Path(scratch) / name).mkdir()
            checkouts.append(Checkout(code, Path(scratch) / name))
        for what, (arguments, awaited) in COMMANDS.items():
            taken = [
                [each.seconds(arguments, awaited) for each in checkouts] for _ in range(asked.pairs)
            ]
            table.add_row(what, *(_shown(list(each)) for each in zip(*taken, strict=True)))
    Console().print(table)


def _shown(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f} to {max(seconds):.1f})"


if __name__ == "__main__":
    main()
