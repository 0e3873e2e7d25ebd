"""How fast rows are scored, beside the obvious implementation.

python -m benchmarks.predict [--size "embedded default"] [--rows 4096] [--device cpu]
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.command_line import run
from benchmarks.measure import side_by_side, timing_cells
from benchmarks.models import SIZES, autocast, build_pair, check_same, random_batch


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


if __name__ == "__main__":
    run("predict", compare, __doc__, rows=[256, 4096])
