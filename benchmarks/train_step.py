"""How fast a training step is, beside the obvious implementation.

python -m benchmarks.train_step [--size "embedded default"] [--rows 256] [--device cpu]
"""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.command_line import run
from benchmarks.measure import seconds, side_by_side, timing_cells
from benchmarks.models import Contest, necessary_flops, obvious_step, our_step, tokens

PEAK_MATRIX = {"cpu": 2048, "cuda": 8192}


def matmul_peak(device: torch.device, precision: str) -> float:
    """Floating-point operations a second of a large matrix product on random data."""
    width = PEAK_MATRIX[device.type]
    dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision, torch.float32)
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    times = [seconds(lambda: left @ right, device) for _ in range(10)]
    return float(2.0 * width**3 / min(times[3:]))


def compare(contest: Contest, pairs: int) -> dict[str, Any]:
    """Time training steps on one batch."""
    ours, obvious, device = contest.ours, contest.obvious, contest.device
    rows = len(contest.batch)
    step = our_step(ours, contest.batch, contest.execution)
    opponent = obvious_step(obvious, contest.batch, contest.plain)
    peaks = [peak_memory(one, model, device) for one, model in ((step, ours), (opponent, obvious))]
    timing = side_by_side(step, opponent, device, pairs)
    achieved = necessary_flops(ours, rows) / timing.ours
    return {
        "attention": ours.llm.kernel,
        **timing_cells(timing, rows),
        "tokens/s": tokens(rows) / timing.ours,
        "GFLOP/s": achieved / 1e9,
        "of peak": achieved / matmul_peak(device, contest.execution.precision),
        "GiB": peaks[0],
        "opponent GiB": peaks[1],
    }


def peak_memory(
    step: Callable[[], None], model: torch.nn.Module, device: torch.device
) -> float | None:
    """Peak GiB on the device in one side's steps: its weights and all it takes; None on the CPU."""
    if device.type != "cuda":
        return None
    weights = sum(weight.nbytes for weight in model.parameters())
    others = torch.cuda.memory_allocated(device) - weights
    step()  # after it the optimiser has its state
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return (torch.cuda.max_memory_allocated(device) - others) / 2**30


if __name__ == "__main__":
    run("train_step", compare, __doc__, rows=[64, 256])
