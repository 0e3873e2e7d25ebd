"""The command line of benchmarks that compare one size of the model at several batch sizes."""

import argparse
from collections.abc import Callable
from typing import Any

from benchmarks.measure import report
from benchmarks.models import SIZES
from llm_ctr_pipeline.training.devices import limit_cpu_threads, resolve_device
from llm_ctr_pipeline.training.settings import Execution

Compare = Callable[[str, int, Execution, str, int, str | None], dict[str, Any]]


def run(question: str, compare: Compare, description: str | None, rows: list[int]) -> None:
    """Read the command line, compare at each batch size, and report.

    Args:
        question: Name of the benchmark.
        compare: Takes size, batch size, how to run, attention kernel, number of pairs, and the
            opponent's precision where it is not ours; gives a row of the report.
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
    parser.add_argument("--attention", default="auto", help="ours: the attention kernel")
    parser.add_argument("--compile", default="auto", help="ours: off, default, reduce-overhead")
    parser.add_argument("--micro-batch-size", type=int, help="ours: most rows in one pass")
    parser.add_argument("--activation-checkpointing", default="auto", help="ours: on, off")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=9)
    asked = parser.parse_args()
    limit_cpu_threads(asked.threads)
    execution = Execution(
        device=asked.device,
        precision=asked.precision,
        eval_batch_size=max(asked.rows),
        micro_batch_size=asked.micro_batch_size,
        activation_checkpointing=asked.activation_checkpointing,
        compile=asked.compile,
    )
    found = [
        compare(
            asked.size, count, execution, asked.attention, asked.pairs, asked.opponent_precision
        )
        for count in asked.rows
    ]
    size = asked.size.replace(" ", "-").lower()
    report(f"{question}_{size}", resolve_device(asked.device), found)
