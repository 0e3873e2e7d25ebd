"""Records' files, read and changed as a test wants them."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary, SplitSummary
from llm_ctr_pipeline.data.storage.record_text import DIGEST, digest_of
from llm_ctr_pipeline.data.storage.store_path import AnyPath
from llm_ctr_pipeline.reporting.pages.facts import ChangedSetting, RunFacts
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.training.history import Ran
from tests.data.logs import changed, log_of

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

FACTS = RunFacts(
    command="kedro run --env test --params training.epochs=3",
    git_commit="ab" * 20,
    git_changed=False,
    machine="a processor, 2 cores, 16 GiB, Linux",
    versions={"Python": "3.12"},
    changed=(ChangedSetting(name="training.epochs", default="5", used="3"),),
)


def summary_of(
    dataset: str,
    fields: Sequence[str] = ("a", "b", "c"),
    *,
    clicks: int = 5,
    fingerprint: str = "cd" * 32,
    unknown_share: float = 0.0,
) -> DatasetSummary:
    """What preprocessing would count of ten rows of each split of a log of these fields."""
    counted = SplitSummary(
        rows=10,
        clicks=clicks,
        click_rate=clicks / 10,
        unknown_share=unknown_share,
        unknown_share_by_field=dict.fromkeys(fields, unknown_share),
        ids_fingerprint="0" * 16,
        raw_fingerprint=dataset,
    )
    return DatasetSummary(
        dataset=dataset,
        log=changed(log_of(*fields), dataset=dataset),
        feature_map="a",
        fingerprint=fingerprint,
        extends=None,
        source="generated log",
        best_auc=None,
        splits=dict.fromkeys(("train", "valid", "test"), counted),
        example=(dict.fromkeys(fields, "1"),),
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
