"""The command line of benchmarks that compare one size of the model at several batch sizes."""

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import report
from benchmarks.models import SIZES, Contest, set_up_contest
from llm_ctr_pipeline.training.machine.compilation import resolve_compile
from llm_ctr_pipeline.training.machine.devices import resolve_device
from llm_ctr_pipeline.training.settings import Execution

Compare = Callable[[Contest, int], dict[str, Any]]


def run(question: str, compare: Compare, description: str | None, rows: list[int]) -> None:
    """Read the command line, compare at each batch size, and report.

    Args:
        question: Name of the benchmark.
        compare: Takes both sides and the number of pairs; gives what it found, as cells of the
            report.
        description: What `--help` says.
        rows: Batch sizes unless the command line names others.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="embedded default")
    parser.add_argument("--rows", type=int, nargs="+", default=rows)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", help="ours")
    parser.add_argument("--opponent-precision", help="the opponent's, where it is not ours")
    parser.add_argument("--float32-matmul", default="highest", help="both: highest, high (TF32)")
    parser.add_argument("--deterministic", action="store_true", help="both")
    parser.add_argument("--attention", default="auto", help="ours: the attention kernel")
    parser.add_argument("--compile", default="auto", help="ours: off, default, reduce-overhead")
    parser.add_argument("--micro-batch-size", type=int, help="ours: most rows in one pass")
    parser.add_argument("--activation-checkpointing", default="auto", help="ours: on, off")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    execution = Execution(
        device=asked.device,
        cpu_threads=asked.threads,
        precision=asked.precision,
        float32_matmul=asked.float32_matmul,
        deterministic=asked.deterministic,
        eval_batch_size=max(asked.rows),
        micro_batch_size=asked.micro_batch_size,
        activation_checkpointing=asked.activation_checkpointing,
        strategy="auto",
        compile=asked.compile,
    )
    found = []
    for count in asked.rows:
        contest = set_up_contest(
            SIZES[asked.size], count, execution, asked.attention, asked.opponent_precision
        )
        settled = {
            "size": asked.size,
            "B": count,
            "precision": contest.execution.precision,
            "opponent precision": contest.plain.precision,
            "compile": resolve_compile(execution.compile, contest.device) or "off",
        }
        found.append(settled | compare(contest, asked.pairs))
    size = asked.size.replace(" ", "-").lower()
    report(f"{question}_{size}", resolve_device(asked.device), found)
