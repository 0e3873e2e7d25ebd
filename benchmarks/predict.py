"""How fast rows are scored, beside the obvious implementation.

python -m benchmarks.predict [--size "embedded default"] [--rows 4096] [--device cpu]
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.command_line import run
from benchmarks.measure import side_by_side, timing_cells
from benchmarks.models import SIZES, autocast, build_pair, check_same, random_rows, settle
from llm_ctr_pipeline.training.compilation import compiled, resolve_compile
from llm_ctr_pipeline.training.devices import resolve_device
from llm_ctr_pipeline.training.settings import Execution


def compare(
    size: str,
    rows: int,
    execution: Execution,
    attention: str,
    pairs: int,
    opponent_precision: str | None,
) -> dict[str, Any]:
    """Time one size with one batch size."""
    device = resolve_device(execution.device)
    ours, obvious = build_pair(SIZES[size], execution, attention)
    execution = settle(execution, ours)
    plain = replace(execution, precision=opponent_precision or execution.precision)
    batch = random_rows(rows, device)
    check_same(ours, obvious, batch, execution)
    mode = resolve_compile(execution.compile, device)
    faster = compiled(ours.eval(), mode)

    def score(model: nn.Module, settled: Execution) -> Tensor:
        with torch.inference_mode(), autocast(settled):
            log_odds_B: Tensor = model(batch.ids_NF)
        return log_odds_B

    timing = side_by_side(
        lambda: score(faster, execution), lambda: score(obvious, plain), device, pairs
    )
    return {
        "size": size,
        "B": rows,
        "precision": execution.precision,
        "opponent precision": plain.precision,
        "compile": mode or "off",
        **timing_cells(timing, rows),
    }


if __name__ == "__main__":
    run("predict", compare, __doc__, rows=[256, 4096])
