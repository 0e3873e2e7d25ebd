"""Preprocessing of a log of Avazu's shape, beside FuxiCTR and beside pandas with scikit-learn.

python -m benchmarks.preprocess [--rows 1000000 4000000] [--repeats 3] [--only ours]

Each runs as a process of its own, from the CSV to encoded rows and a vocabulary, in turn. Ours
takes the steps of the preprocess pipeline: it also checks every row, and takes the splits for
validation and test, of 1,000 rows here. That the vocabularies hold the same values is checked.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from benchmarks.avazu_shaped import write_log
from benchmarks.fuxictr_client import fuxictr_python
from benchmarks.measure import report
from benchmarks.process_tree import Usage, measure

MIN_COUNT = 2
MEMORY_LIMIT = "2GB"  # of the engine; the process takes some more
SMALL_ROWS = 1000
Vocabulary = dict[str, set[str]]


@dataclass(frozen=True)
class Contender:
    """One way to preprocess.

    Attributes:
        run: Preprocesses a raw folder into a scratch folder.
        vocabulary: Reads the values that got an id off the scratch folder.
    """

    run: Callable[[Path, Path], Usage]
    vocabulary: Callable[[Path], Vocabulary]


def run_ours(raw: Path, scratch: Path) -> Usage:
    """Run this project's steps."""
    script = Path(__file__).with_name("our_preprocess.py")
    command: list[str | Path] = [sys.executable, script, raw, scratch, str(MIN_COUNT), MEMORY_LIMIT]
    return measure(command, {}, scratch)


def read_ours(scratch: Path) -> Vocabulary:
    """Read the vocabulary that our steps fit."""
    table = pq.read_table(scratch / "vocabulary.parquet")
    found: Vocabulary = {}
    for field, value in zip(table["field"].to_pylist(), table["value"].to_pylist(), strict=True):
        found.setdefault(field, set()).add(value)
    return found


def run_fuxictr(raw: Path, scratch: Path) -> Usage:
    """Run FuxiCTR's preprocessing in its environment."""
    script = Path(__file__).with_name("fuxictr_preprocess.py")
    command: list[str | Path] = [
        fuxictr_python(),
        script,
        raw / "train.csv",
        scratch,
        str(MIN_COUNT),
    ]
    return measure(command, {"RAY_USAGE_STATS_ENABLED": "0"}, scratch)


def read_fuxictr(scratch: Path) -> Vocabulary:
    """Read FuxiCTR's vocabulary without its marks for padding and unknown values."""
    content = json.loads((scratch / "x4" / "feature_vocab.json").read_text())
    return {field: set(values) - {"__PAD__", "__OOV__"} for field, values in content.items()}


def run_pandas(raw: Path, scratch: Path) -> Usage:
    """Run pandas and scikit-learn."""
    script = Path(__file__).with_name("pandas_preprocess.py")
    command: list[str | Path] = [sys.executable, script, raw / "train.csv", scratch, str(MIN_COUNT)]
    return measure(command, {}, scratch)


def read_pandas(scratch: Path) -> Vocabulary:
    """Read the frequent categories."""
    content = json.loads((scratch / "vocabulary.json").read_text())
    return {field: set(values) for field, values in content.items()}


CONTENDERS = {
    "ours": Contender(run_ours, read_ours),
    "FuxiCTR": Contender(run_fuxictr, read_fuxictr),
    "pandas": Contender(run_pandas, read_pandas),
}


def compare(rows: int, repeats: int, names: list[str], folder: Path) -> list[dict[str, Any]]:
    """Measure the contenders in turn; return a row of the report for each.

    Raises:
        AssertionError: If two vocabularies differ.
    """
    raw = folder / f"raw_{rows}"
    raw.mkdir()
    for seed, (split, count) in enumerate(
        {"train": rows, "valid": SMALL_ROWS, "test": SMALL_ROWS}.items()
    ):
        write_log(raw / f"{split}.csv", count, seed)
    usages: dict[str, list[Usage]] = {name: [] for name in names}
    expected: Vocabulary | None = None
    for repeat in range(repeats):
        for name in names:
            scratch = folder / "scratch"
            scratch.mkdir()
            os.sync()  # what the one before wrote is not written while this one runs
            usages[name].append(CONTENDERS[name].run(raw, scratch))
            if repeat == 0:
                found = CONTENDERS[name].vocabulary(scratch)
                expected = expected or found
                check_same(expected, found, name)
            shutil.rmtree(scratch)
    shutil.rmtree(raw)
    return [row(rows, name, usages[name], usages[names[0]]) for name in names]


def check_same(expected: Vocabulary, found: Vocabulary, name: str) -> None:
    """Raise where a vocabulary does not hold the same values of the same fields."""
    for field in expected.keys() | found.keys():
        odd = expected.get(field, set()) ^ found.get(field, set())
        if odd:
            raise AssertionError(
                f"{name}: {len(odd)} values of {field} are not in both vocabularies, such as "
                f"{sorted(odd)[:3]}"
            )


def row(rows: int, name: str, usages: list[Usage], ours: list[Usage]) -> dict[str, Any]:
    """One row of the report: medians, and how many times the first contender's they are."""
    seconds = [usage.seconds for usage in usages]
    ratios = [theirs.seconds / own.seconds for theirs, own in zip(usages, ours, strict=True)]
    peak = statistics.median(usage.peak_gib for usage in usages)
    return {
        "rows": rows,
        "what": name,
        "s": statistics.median(seconds),
        "lowest": min(seconds),
        "highest": max(seconds),
        "CPU s": statistics.median(usage.cpu_seconds for usage in usages),
        "peak GiB": peak,
        "times ours": statistics.median(ratios),
        "GiB times ours": peak / statistics.median(usage.peak_gib for usage in ours),
        "runs": len(usages),
    }


def main() -> None:
    """Compare at each number of rows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=[*CONTENDERS])
    parser.add_argument("--folder", type=Path, default=None, help="for the files; needs room")
    arguments = parser.parse_args()
    if "FuxiCTR" in arguments.only:
        fuxictr_python()  # made before anything is measured

    with tempfile.TemporaryDirectory(prefix="preprocess-", dir=arguments.folder) as folder:
        found = [
            cells
            for rows in arguments.rows
            for cells in compare(rows, arguments.repeats, arguments.only, Path(folder))
        ]
    torch.set_num_threads(os.cpu_count() or 1)  # what report says: all of them use every core
    report("preprocess", torch.device("cpu"), found)


if __name__ == "__main__":
    main()
