"""How fast batches come, nothing else running.

python -m benchmarks.input
"""

import statistics
from typing import Any

import torch

from benchmarks.measure import report, seconds
from benchmarks.models import random_rows
from llm_ctr_pipeline.data.input.batches import EncodedSplit

ROWS = 4_000_000
CPU = torch.device("cpu")


def walk(split: EncodedSplit, batch_size: int, epoch: int) -> None:
    """Take every batch of one epoch, in its random order."""
    for _batch in split.batches(batch_size, 0, epoch, CPU):
        pass


def main() -> None:
    """Time epochs over 4 million rows on one core."""
    torch.set_num_threads(1)
    split = random_rows(ROWS, CPU)
    rows: list[dict[str, Any]] = []
    for batch_size in (256, 10_000):
        times = [seconds(lambda: walk(split, batch_size, 0), CPU) for _ in range(5)]  # noqa: B023
        rows.append({"B": batch_size, "rows/s": ROWS / statistics.median(times), "runs": 5})
    report("input", CPU, rows)


if __name__ == "__main__":
    main()
