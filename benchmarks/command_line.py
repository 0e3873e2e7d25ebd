"""The command line of benchmarks that compare one size of the model at several batch sizes."""

import argparse
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.measure import report
from benchmarks.models import SIZES
from llm_ctr_pipeline.training.devices import limit_cpu_threads, resolve_device

Compare = Callable[[str, int, torch.device, int], dict[str, Any]]


def run(question: str, compare: Compare, description: str | None, rows: list[int]) -> None:
    """Read the command line, compare at each batch size, and report.

    Args:
        question: Name of the benchmark.
        compare: Takes size, batch size, device and number of pairs; gives a row of the report.
        description: What `--help` says.
        rows: Batch sizes unless the command line names others.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="embedded default")
    parser.add_argument("--rows", type=int, nargs="+", default=rows)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=9)
    arguments = parser.parse_args()
    limit_cpu_threads(arguments.threads)
    device = resolve_device(arguments.device)
    size = arguments.size
    found = [compare(size, count, device, arguments.pairs) for count in arguments.rows]
    report(f"{question}_{size.replace(' ', '-').lower()}", device, found)
