"""How fast DeepFM trains, beside FuxiCTR's DeepFM with the same weights on the same rows.

python -m benchmarks.deepfm_step [--ids 3750975] [--threads 4] [--device cpu] [--bf16]

Two questions: one training step on a batch that lies ready, and an epoch through each side's own
batches and loop. FuxiCTR runs in an environment of its own, made at the first call (see
`fuxictr_client`); without it, ours is timed alone.

Shape legend: N rows, B rows of a batch, F fields.
"""

import argparse
import logging
import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.fuxictr_client import FuxiCtr, FuxiCtrMissingError, fuxictr_python
from benchmarks.measure import SideBySide, report, seconds, side_by_side, timing_cells
from llm_ctr_pipeline.data.input.batches import EncodedSplit, shuffled_batches
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.settings import DeepFmSettings
from llm_ctr_pipeline.training.machine.devices import keep_freed_memory, resolve_device
from llm_ctr_pipeline.training.optimizer import build_optimizer

logger = logging.getLogger(__name__)

# Avazu's raw fields with hour, weekday and weekend, but for device_id and device_ip, which hold
# nearly all of its ids and are scaled to the number asked for.
SMALL_FIELDS = (
    *(24, 7, 2, 7, 7, 4737, 7745, 26, 8552, 559, 36),
    *(8251, 5, 4, 2626, 8, 9, 435, 4, 68, 172, 60),
)
DEVICE_ID_SHARE = 0.285
# What x4 has at min_count 2: BARS's DeepFM of that size has 76,544,576 weights.
AVAZU_IDS = 3_750_975
EPOCH_BATCHES = 3
LR = 1e-3
SETTINGS = DeepFmSettings(
    embedding_dim=16,
    embedding_init_std=1e-4,
    gen=False,
    gen_gamma=6.0,
    hidden_sizes=(2000, 2000, 2000, 2000),
    dropout=0.0,
    batch_norm=False,
)


def field_sizes(ids: int) -> tuple[int, ...]:
    """Sizes of 24 fields with so many ids in all."""
    devices = ids - sum(SMALL_FIELDS)
    device_ids = int(devices * DEVICE_ID_SHARE)
    return (*SMALL_FIELDS, device_ids, devices - device_ids)


def random_rows(rows: int, sizes: tuple[int, ...]) -> EncodedSplit:
    """Draw rows in which low ids are frequent, as in a vocabulary ordered by count."""
    generator = torch.Generator().manual_seed(1)
    uniform_NF = torch.rand(rows, len(sizes), generator=generator)
    ids_NF = (uniform_NF**3 * torch.tensor(sizes)).int()
    labels_N = (torch.rand(rows, generator=generator) < 0.17).float()  # noqa: PLR2004
    return EncodedSplit(ids_NF, labels_N)


class Ours:
    """Our model with what a training step and an epoch take."""

    def __init__(self, model: DeepFm, rows: EncodedSplit, batch_size: int, bf16: bool) -> None:
        self.model = model
        self.bf16 = bf16
        self.rows = rows
        self.batch_size = batch_size
        self.batch = rows.take(torch.arange(batch_size, device=rows.ids_NF.device))
        self.optimizer = build_optimizer(model, LR, LR, weight_decay=0.0)
        self.epochs = 0

    def loss(self, ids_BF: Tensor, labels_B: Tensor) -> Tensor:
        """Mean loss of a batch."""
        with torch.autocast(ids_BF.device.type, torch.bfloat16, enabled=self.bf16):
            return F.binary_cross_entropy_with_logits(self.model(ids_BF), labels_B)

    def train(self, ids_BF: Tensor, labels_B: Tensor) -> None:
        """Train one step."""
        torch.autograd.backward(self.loss(ids_BF, labels_B))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> None:
        """Train one step on the ready batch."""
        self.train(*self.batch)

    def epoch(self) -> None:
        """Train on all rows once, in random order."""
        device = self.rows.ids_NF.device
        for rows_B in shuffled_batches(len(self.rows), self.batch_size, 0, self.epochs, device):
            self.train(*self.rows.take(rows_B))
        self.epochs += 1


def check_same(ours: Ours, opponent: FuxiCtr) -> None:
    """Refuse to compare what does not compute the same."""
    with torch.no_grad():
        losses = ours.loss(*ours.batch).item(), opponent.loss()
    tolerance = 1e-2 if ours.bf16 else 1e-5
    if abs(losses[0] - losses[1]) > tolerance * losses[1]:
        raise AssertionError(f"losses differ: {losses[0]} and {losses[1]}")


def alone(run: Callable[[], object], device: torch.device, runs: int) -> SideBySide:
    """Time ours where there is no opponent."""
    seconds(run, device)
    times = [seconds(run, device) for _ in range(runs)]
    missing = float("nan")
    return SideBySide(statistics.median(times), missing, missing, missing, missing, runs)


def compare(
    ids: int, batch_size: int, device: torch.device, pairs: int, bf16: bool
) -> list[dict[str, Any]]:
    """Time one size of the vocabulary: a step, and an epoch through the batches."""
    sizes = field_sizes(ids)
    model = DeepFm.create(SETTINGS, sizes, seed=0)
    rows = random_rows(EPOCH_BATCHES * batch_size, sizes)
    try:
        python = fuxictr_python()
    except FuxiCtrMissingError as error:
        logger.warning("Ours alone: %s", error)
        ours = Ours(model.to(device), rows.to(device), batch_size, bf16)
        timings = {
            "a step": (alone(ours.step, device, pairs), 1),
            "an epoch": (alone(ours.epoch, device, pairs), EPOCH_BATCHES),
        }
    else:
        with (
            tempfile.TemporaryDirectory() as folder,
            FuxiCtr(python, Path(folder), model, rows, batch_size, LR, device.type) as opponent,
        ):
            ours = Ours(model.to(device), rows.to(device), batch_size, bf16)
            check_same(ours, opponent)
            timings = {
                "a step": (side_by_side(ours.step, opponent.step, device, pairs), 1),
                "an epoch": (
                    side_by_side(ours.epoch, opponent.epoch, device, max(pairs // 3, 3), 1),
                    EPOCH_BATCHES,
                ),
            }
    return [
        {
            "ids": ids,
            "what": what,
            "ours in": "bfloat16" if bf16 else "float32",
            **{
                name: None if math.isnan(cell) else cell
                for name, cell in timing_cells(timing, batches * batch_size).items()
            },
        }
        for what, (timing, batches) in timings.items()
    ]


def main() -> None:
    """Read the command line, compare at each size of the vocabulary, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=int, nargs="+", default=[AVAZU_IDS])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument(
        "--bf16", action="store_true", help="ours in bfloat16 autocast; FuxiCTR has float32 alone"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = resolve_device(arguments.device)
    keep_freed_memory()  # as training does
    found = [
        row
        for ids in arguments.ids
        for row in compare(ids, arguments.rows, device, arguments.pairs, arguments.bf16)
    ]
    report("deepfm_step", device, found)


if __name__ == "__main__":
    main()
