"""Timing two things side by side, and reporting what came out."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "results"
WHOLE_NUMBERS_FROM = 999
console = Console(width=110)


@dataclass(frozen=True)
class SideBySide:
    """Times of two things that ran in turn.

    Attributes:
        ours: Median seconds of ours.
        opponent: Median seconds of the opponent.
        ratio: Median over the pairs of the opponent's seconds by ours: how many times faster.
        lowest: Lowest ratio of a pair.
        highest: Highest ratio of a pair.
        pairs: How many pairs ran.
    """

    ours: float
    opponent: float
    ratio: float
    lowest: float
    highest: float
    pairs: int


def side_by_side(
    ours: Callable[[], object],
    opponent: Callable[[], object],
    device: torch.device,
    pairs: int,
    warm_up: int = 2,
) -> SideBySide:
    """Run two things in turn, so that a machine that slows down slows both."""
    for _ in range(warm_up):
        seconds(ours, device)
        seconds(opponent, device)
    times = [(seconds(ours, device), seconds(opponent, device)) for _ in range(pairs)]
    ratios = [theirs / own for own, theirs in times]
    return SideBySide(
        ours=statistics.median(own for own, _ in times),
        opponent=statistics.median(theirs for _, theirs in times),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        pairs=pairs,
    )


def seconds(run: Callable[[], object], device: torch.device) -> float:
    """Wall time of one call, with the device's queue empty before and after."""
    _wait(device)
    start = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers were taken on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "device": name or platform.machine(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def report(question: str, device: torch.device, rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the rows as a table and write them to `benchmarks/results/QUESTION_DEVICE.json`."""
    where = machine(device)
    # A line for each figure and a column for each case: there are more figures than cases.
    table = Table(show_header=False, title=question, caption=", ".join(map(str, where.values())))
    for _ in range(len(rows) + 1):
        table.add_column(justify="right")
    for name in rows[0]:
        table.add_row(name, *(_shown(row[name]) for row in rows))
    console.print(table)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{question}_{device.type}.json"
    file.write_text(json.dumps({"machine": where, "rows": rows}, indent=2) + "\n")


def _shown(cell: Any) -> str:
    """A cell as text: four digits, larger numbers whole, nothing for None."""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) > WHOLE_NUMBERS_FROM else f"{cell:.4g}"
    return "" if cell is None else str(cell)


def timing_cells(timing: SideBySide, rows: int) -> dict[str, Any]:
    """A timing as cells of a report, in rows a second."""
    return {
        "ours rows/s": rows / timing.ours,
        "opponent rows/s": rows / timing.opponent,
        "ratio": timing.ratio,
        "lowest": timing.lowest,
        "highest": timing.highest,
        "pairs": timing.pairs,
    }
