"""How fast a request is answered: latency by its rows, and rows a second.

python -m benchmarks.serve [--rows 1 32 1024] [--calls 400] [--compile] [--device cpu]
python -m benchmarks.serve --http single_phase deepfm

In the process: ids in, log-odds out. The fixed prompt stands beside the obvious implementation of
the same model (the prompt repeated for every row, the logits of the whole vocabulary), beside
DeepFM, and beside its own exports: compiled, if asked for, and in ONNX Runtime, where the extra
`export` is installed.

Over HTTP: raw rows in, probabilities out, of the best models that `kedro run` and
`kedro run --pipeline=train_deepfm` have left in this project, each behind a server of its own,
asked by one client and by four at a time.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import report, seconds
from benchmarks.models import FIELDS, IDS_A_FIELD, SIZES, build_pair, check_same, random_rows
from llm_ctr_pipeline.models.baselines.deepfm import DeepFm
from llm_ctr_pipeline.models.fixed_prompt import FixedPromptCtr
from llm_ctr_pipeline.models.settings import DeepFmSettings
from llm_ctr_pipeline.serving.export import compile_program, trace, write_onnx
from llm_ctr_pipeline.training.machine.devices import resolve_device
from llm_ctr_pipeline.training.settings import Execution

Score = Callable[[Tensor], object]
OBVIOUS = "obvious"
WARM_UP = 3
FEWEST_CALLS = 30
ROWS_OF_USUAL_CALLS = 32  # with more rows there are fewer calls


def build(size: str, device: torch.device, precision: str, *, compiled: bool) -> dict[str, Score]:
    """Build all that is compared, by name, and make sure that the decoders compute the same."""
    execution = Execution(
        device=device.type,
        cpu_threads=torch.get_num_threads(),
        precision="32-true",
        float32_matmul="highest",
        deterministic=False,
        eval_batch_size=1024,
        micro_batch_size=None,
        activation_checkpointing="off",
        strategy="auto",
        compile="off",
    )
    ours, obvious = build_pair(SIZES[size], execution, attention="sdpa")
    fixed = FixedPromptCtr(ours)
    check_same(fixed, obvious, random_rows(64, device), execution)
    lowered: Any = fixed if precision == "32-true" else FixedPromptCtr(ours, precision)  # type: ignore[arg-type]
    deepfm = DeepFmSettings(
        **{"embedding_dim": 16, "embedding_init_std": 0.01, "gen_gamma": 6.0, "gen": True},
        **{"hidden_sizes": (128, 128), "dropout": 0.0, "batch_norm": False},
    )
    models: dict[str, nn.Module] = {
        "fixed prompt": lowered,
        OBVIOUS: obvious.eval(),
        "DeepFM": DeepFm.create(deepfm, [IDS_A_FIELD] * FIELDS, seed=0).to(device).eval(),
    }
    scores: dict[str, Score] = dict(models)
    if compiled:
        scores["compiled"] = compiled_ahead(ours)
    if device.type == "cpu" and find_spec("onnxruntime") and find_spec("onnxscript"):
        scores["ONNX Runtime"] = on_onnxruntime(ours)
    return scores


def compiled_ahead(model: nn.Module) -> Score:
    """Export a model and compile it."""
    from torch._inductor import aoti_load_package

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scorer.pt2"
        compile_program(trace(model), file)
        program = aoti_load_package(str(file))
    return lambda ids_BF: program(ids_BF.long())


def on_onnxruntime(model: nn.Module) -> Score:
    """Export a model and load it into ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scorer.onnx"
        write_onnx(trace(model), file)
        session = onnxruntime.InferenceSession(file, options)
    return lambda ids_BF: session.run(["probability"], {"ids": ids_BF.long().numpy()})


def in_process(
    scores: Mapping[str, Score], rows: int, calls: int, device: torch.device
) -> list[dict[str, Any]]:
    """Time calls in turn, so that a machine that slows down slows all."""
    ids_BF = random_rows(rows, device).ids_NF
    times: dict[str, list[float]] = {name: [] for name in scores}
    with torch.inference_mode():
        for call in range(WARM_UP + calls):
            for name, score in scores.items():
                took = seconds(lambda: score(ids_BF), device)  # noqa: B023
                if call >= WARM_UP:
                    times[name].append(took)
    return [latency_cells(name, times[name], times[OBVIOUS], rows) for name in scores]


def latency_cells(name: str, times: list[float], obvious: list[float], rows: int) -> dict[str, Any]:
    """Seconds of single calls as cells of a report, in milliseconds."""
    p50, p95, p99 = (1000 * np.quantile(times, [0.5, 0.95, 0.99])).tolist()
    return {
        "": name,
        "B": rows,
        "lowest ms": 1000 * min(times),
        "p50 ms": p50,
        "p95 ms": p95,
        "p99 ms": p99,
        "p99 / p50": p99 / p50,
        "rows/s": 1000 * rows / p50,
        "times obvious": statistics.median(
            theirs / own for own, theirs in zip(times, obvious, strict=True)
        ),
        "calls": len(times),
    }


def main() -> None:
    """Read the command line, measure, and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="embedded default")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 32, 1024])
    parser.add_argument("--calls", type=int, default=400, help="of each, of up to 32 rows")
    parser.add_argument("--precision", choices=["32-true", "bf16", "int8"], default="32-true")
    parser.add_argument("--compile", action="store_true", help="export.to=compiled too")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--http", nargs="+", metavar="PATH", help="trained paths, behind servers")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    calls_by_rows = {
        rows: max(FEWEST_CALLS, asked.calls * ROWS_OF_USUAL_CALLS // max(rows, ROWS_OF_USUAL_CALLS))
        for rows in asked.rows
    }
    if asked.http:
        from benchmarks.serve_http import over_http  # it needs MLflow, the others do not

        for cells in over_http(asked.http, calls_by_rows, asked.threads):
            name = f"serve_http_{cells[0]['B']}_{cells[0]['clients']}_clients"
            report(name, torch.device("cpu"), cells)
        return
    device = resolve_device(asked.device)
    scores = build(asked.size, device, asked.precision, compiled=asked.compile)
    size = asked.size.replace(" ", "-").lower()
    for rows, calls in calls_by_rows.items():
        found = in_process(scores, rows, calls, device)
        report(f"serve_in_process_{rows}_{size}_{asked.precision}", device, found)


if __name__ == "__main__":
    main()
