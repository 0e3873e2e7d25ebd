"""Records' files, read and changed as a test wants them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_ctr_pipeline.data.storage.record_text import DIGEST, digest_of
from llm_ctr_pipeline.data.storage.store_path import AnyPath
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.training.history import Ran

RAN = Ran(
    device="cuda:0 (NVIDIA A100)",
    precision="bf16-mixed",
    float32_matmul="highest",
    deterministic=True,
    compile="default",
    attention="sdpa",
    micro_batch_size=128,
    activation_checkpointing="off",
)


def content_of(file: AnyPath) -> dict[str, Any]:
    """What a record's file holds, but for its digest."""
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    content.pop(DIGEST, None)
    return content


def rewrite(file: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a record's file as this project would: its digest is right."""
    content = content_of(file)
    change(content)
    file.write_text(json.dumps({**content, DIGEST: digest_of(content)}), encoding="utf-8")


def retrained(
    model: ScoredModel, name: str, *, seed: int, settings: str, run_id: str | None = None
) -> ScoredModel:
    """Copy a tested model as if it were of another training."""
    report = model.report
    trained = report.evaluation.trained.model_copy(update={"seed": seed})
    changed = replace(
        report,
        name=name,
        evaluation=report.evaluation.model_copy(update={"trained": trained}),
        training=report.training.model_copy(update={"seed": seed, "settings": settings}),
        run_id=run_id,
    )
    return replace(model, report=changed)
