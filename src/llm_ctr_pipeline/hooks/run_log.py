"""What a run says while it goes on: on which log, which node, and what it replaces."""

import logging
import re
from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.storage.record_text import RecordError, from_text
from llm_ctr_pipeline.resolvers import from_project

logger = logging.getLogger(__name__)


class RunLogHook:
    """Says in a line what a run does, in a line each which node begins, and what is replaced."""

    def __init__(self) -> None:
        self._nodes: list[str] = []
        self._said = ""

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Say what runs on which log, and what of an earlier run it does again."""
        self._nodes, self._said = [node.name for node in pipeline.nodes], ""
        names = ", ".join(run_params.get("pipeline_names") or ["preprocess", "train"])
        logged = mlflow.active_run()
        run = f"; MLflow run {logged.info.run_id}" if logged else ""
        logger.info("%s%s: %d nodes%s", names, _on_log(pipeline, catalog), len(self._nodes), run)
        for name in sorted(pipeline.all_outputs()):
            if name.rpartition(".")[2] == "summary" and catalog.exists(name):
                folder = from_project(catalog.get(name)._filepath).parent  # type: ignore[union-attr]
                logger.info("%s is of an earlier run: this one replaces it", folder)

    @hook_impl
    def before_node_run(self, node: Node, catalog: DataCatalog, inputs: dict[str, Any]) -> None:
        """Say which node begins, the figures once; and which model a training replaces."""
        name = re.sub(r"\bdraw_\w+", "draw_*", node.name)
        if name != self._said:
            logger.info("%d/%d %s", self._nodes.index(node.name) + 1, len(self._nodes), name)
        self._said = name
        for output in node.outputs:
            if output.endswith(".best_model") and "summary" in inputs and catalog.exists(output):
                folder = catalog.get(output)._filepath  # type: ignore[union-attr]
                say_what_is_replaced(folder, inputs["summary"])

    @hook_impl
    def after_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Say so where nothing had to be done."""
        if run_params.get("only_missing_outputs") and not self._said:
            logger.info("No output is missing: no node ran")


def say_what_is_replaced(folder: Path, now: DatasetSummary) -> None:
    """Say which checkpoint a training replaces, as a warning where it is of another log.

    Args:
        folder: The checkpoint's.
        now: Of the log that is trained on.
    """
    place = from_project(folder)
    try:
        was = from_text(DatasetSummary, (folder / "summary.json").read_bytes())
    except (OSError, RecordError):
        logger.warning("%s cannot be read: this training replaces it", place)
        return
    if (was.dataset, was.source) != (now.dataset, now.source):
        logger.warning(
            "%s is a model of %s (%s): this training replaces it by one of %s (%s)",
            *(place, was.dataset, was.source, now.dataset, now.source),
        )
    elif was.splits["train"].raw_fingerprint != now.splits["train"].raw_fingerprint:
        logger.warning(
            "%s is a model of other rows of %s (%s): this training replaces it",
            *(place, was.dataset, was.source),
        )
    else:
        logger.info("%s is of an earlier training on %s: this one replaces it", place, was.dataset)


def _on_log(pipeline: Pipeline, catalog: DataCatalog) -> str:
    """On which log a run is: `on x4 (generated log, 90,000 rows)`; empty where it reads none."""
    inputs = pipeline.inputs()
    for name in ("summary", "evaluated_summary"):
        if name in inputs:
            summary = catalog.load(name)
            rows = sum(split.rows for split in summary.splits.values())
            return f" on {summary.dataset} ({summary.source}, {rows:,} rows)"
    if "params:log" in inputs and "raw_folder" in pipeline.datasets():
        folder = catalog.get("raw_folder")._path  # type: ignore[union-attr]
        return f" on {catalog.load('params:log').dataset} in {from_project(folder)}"
    return ""
