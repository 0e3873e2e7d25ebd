"""How fast rows are scored, beside the obvious implementation.

python -m benchmarks.predict [--size "embedded default"] [--rows 4096] [--device cpu]
"""

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.command_line import run
from benchmarks.measure import side_by_side, timing_cells
from benchmarks.models import Contest, autocast
from llm_ctr_pipeline.training.machine.compilation import compiled, resolve_compile
from llm_ctr_pipeline.training.settings import Execution


def compare(contest: Contest, pairs: int) -> dict[str, Any]:
    """Time scoring of one batch."""
    mode = resolve_compile(contest.execution.compile, contest.device)
    faster = compiled(contest.ours.eval(), mode)

    def score(model: nn.Module, execution: Execution) -> Tensor:
        with torch.inference_mode(), autocast(execution):
            log_odds_B: Tensor = model(contest.batch.ids_NF)
        return log_odds_B

    timing = side_by_side(
        lambda: score(faster, contest.execution),
        lambda: score(contest.obvious, contest.plain),
        contest.device,
        pairs,
    )
    return timing_cells(timing, len(contest.batch))


if __name__ == "__main__":
    run("predict", compare, __doc__, rows=[256, 4096])
