"""How fast rows are scored, beside the obvious implementation.

python -m benchmarks.predict [--size "embedded default"] [--rows 4096] [--device cpu]
"""

import argparse
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import report, side_by_side, timing_cells
from benchmarks.models import SIZES, autocast, build_pair, check_same, random_batch
from llm_ctr_pipeline.training.devices import resolve_device


def compare(size: str, rows: int, device: torch.device, pairs: int) -> dict[str, Any]:
    """Time one size with one batch size."""
    ours, obvious = build_pair(SIZES[size], device)
    ids_BF, labels_B = random_batch(rows, device)
    check_same(ours, obvious, ids_BF, labels_B)

    def score(model: nn.Module) -> Tensor:
        with torch.inference_mode(), autocast(device):
            log_odds_B: Tensor = model(ids_BF)
        return log_odds_B

    timing = side_by_side(lambda: score(ours), lambda: score(obvious), device, pairs)
    return {"size": size, "B": rows, **timing_cells(timing, rows)}


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="embedded default")
    parser.add_argument("--rows", type=int, nargs="+", default=[256, 4096])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    rows = [compare(arguments.size, rows, device, arguments.pairs) for rows in arguments.rows]
    name = arguments.size.replace(" ", "-").lower()
    report(f"predict_{name}", device, rows)


if __name__ == "__main__":
    main()
