"""How fast a training step is, beside the obvious implementation.

python -m benchmarks.train_step [--size "embedded default"] [--rows 256] [--device cpu]
"""

from typing import Any

import torch

from benchmarks.command_line import run
from benchmarks.measure import seconds, side_by_side, timing_cells
from benchmarks.models import (
    SIZES,
    build_pair,
    check_same,
    necessary_flops,
    random_batch,
    training_step,
)

PEAK_MATRIX = {"cpu": 2048, "cuda": 8192}


def matmul_peak(device: torch.device) -> float:
    """Floating-point operations a second of a large matrix product on random data."""
    width = PEAK_MATRIX[device.type]
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    left, right = (torch.randn(width, width, device=device, dtype=dtype) for _ in range(2))
    times = [seconds(lambda: left @ right, device) for _ in range(10)]
    return float(2.0 * width**3 / min(times[3:]))


def compare(size: str, rows: int, device: torch.device, pairs: int) -> dict[str, Any]:
    """Time one size with one batch size."""
    ours, obvious = build_pair(SIZES[size], device)
    ids_BF, labels_B = random_batch(rows, device)
    check_same(ours, obvious, ids_BF, labels_B)
    step = training_step(ours, ids_BF, labels_B)
    opponent = training_step(obvious, ids_BF, labels_B)
    peaks = [peak_memory(one, device) for one in (step, opponent)]
    timing = side_by_side(step, opponent, device, pairs)
    achieved = necessary_flops(ours, rows) / timing.ours
    return {
        "size": size,
        "B": rows,
        **timing_cells(timing, rows),
        "GFLOP/s": achieved / 1e9,
        "of peak": achieved / matmul_peak(device),
        "GiB": peaks[0],
        "opponent GiB": peaks[1],
    }


def peak_memory(step: Any, device: torch.device) -> float | None:
    """Peak GiB on the device in one step, both models' weights included; None on the CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    step()
    return torch.cuda.max_memory_allocated(device) / 2**30


if __name__ == "__main__":
    run("train_step", compare, __doc__, rows=[64, 256])
