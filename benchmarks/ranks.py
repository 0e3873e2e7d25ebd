"""How much faster several processes train, and how much of it goes into sending gradients.

python -m benchmarks.ranks [--size "embedded default"] [--rows 256] [--ranks 1 2] [--device cpu]

The batch is that of the whole step, whatever the number of processes. On the CPU they share the
machine's cores out: one process has all of them. Numbers of processes run in turn; within a run,
steps that send their gradients and steps that keep them to themselves.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from functools import partial
from itertools import product
from typing import Any

import torch

from benchmarks.measure import report, seconds
from benchmarks.models import SIZES, build_pair, random_rows
from llm_ctr_pipeline.training.machine.devices import resolve_device
from llm_ctr_pipeline.training.optimizer import build_optimizer
from llm_ctr_pipeline.training.ranks import group
from llm_ctr_pipeline.training.settings import Execution
from llm_ctr_pipeline.training.step import TrainingStep

WARM_UP = 3


def arguments() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="embedded default", choices=sorted(SIZES))
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--pairs", type=int, default=5, help="runs of each number of processes")
    parser.add_argument("--steps", type=int, default=20, help="of each kind, in a run")
    parser.add_argument("--as-rank", action="store_true", help="what the processes are called with")
    return parser.parse_args()


def time_steps(asked: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step in this run, and of one that sends no gradients; medians."""
    ranks = group.ranks()
    execution = Execution(
        device=asked.device,
        cpu_threads=None,
        precision="auto",
        float32_matmul="highest",
        deterministic=False,
        compile="auto",
        eval_batch_size=1024,
        micro_batch_size=None,
        activation_checkpointing="auto",
        strategy="auto",
    )
    model, _ = build_pair(SIZES[asked.size], execution)
    batch = random_rows(asked.rows, resolve_device(asked.device))
    optimizer = build_optimizer(model, 1e-3, 1e-3, 0.0)
    step = TrainingStep(model, optimizer, asked.rows, execution, sample=batch)
    kinds = {"sent": step._alone, "kept": lambda _: type(step)._alone(step, True)}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    for number, kind in product(range(WARM_UP + asked.steps), kinds):
        step._alone = kinds[kind]  # type: ignore[method-assign]
        ranks.largest(0)  # all begin at once, as after the step before
        took = seconds(partial(step, batch.ids_NF, batch.labels_N), step.device)
        if number >= WARM_UP:
            times[kind].append(took)
    return {kind: statistics.median(of_kind) for kind, of_kind in times.items()}


def run_ranks(count: int, asked: argparse.Namespace) -> dict[str, float]:
    """Time steps in so many processes."""
    threads = max(1, (os.cpu_count() or 1) // count)
    torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={count}"] if count > 1 else []
    call = [sys.executable, *torchrun, "-m", "benchmarks.ranks", "--as-rank", "--size", asked.size]
    call += [f"--rows={asked.rows}", f"--device={asked.device}", f"--steps={asked.steps}"]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(  # noqa: S603 - ourselves
        call, env=env, stdout=subprocess.PIPE, text=True, check=True
    )
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times


def main() -> None:
    """Run the numbers of processes in turn, or be one of the processes."""
    asked = arguments()
    if asked.as_rank:
        several = "TORCHELASTIC_RUN_ID" in os.environ
        leads = not several or group.join().leads
        times = time_steps(asked)
        if leads:
            sys.stdout.write(json.dumps(times) + "\n")
        group.leave()
        return
    runs = [{count: run_ranks(count, asked) for count in asked.ranks} for _ in range(asked.pairs)]
    first = asked.ranks[0]
    rows: list[dict[str, Any]] = []
    for count in asked.ranks:
        gains = [run[first]["sent"] / run[count]["sent"] for run in runs]
        shares = [1 - run[count]["kept"] / run[count]["sent"] for run in runs]
        row = {"processes": count, "rows": asked.rows}
        row["rows/s"] = asked.rows / statistics.median(run[count]["sent"] for run in runs)
        row |= {"times as fast": statistics.median(gains), "lowest": min(gains)}
        row |= {
            "highest": max(gains),
            "share of sending": statistics.median(shares) if count > 1 else None,
        }
        rows.append(row | {"runs": asked.pairs})
    report("ranks", torch.device(asked.device), rows)


if __name__ == "__main__":
    main()
