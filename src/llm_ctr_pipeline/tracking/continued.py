"""A training that goes on from a kept state goes on with its MLflow run too."""

import json
import logging
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Param, Run, RunTag
from mlflow.tracking.fluent import run_id_to_system_metrics_monitor

from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.tracking.abandoned import ENDED
from llm_ctr_pipeline.tracking.outbox import Outbox, reason_of

logger = logging.getLogger(__name__)

# Beside the states: the MLflow run of each training, by the training's key.
RUNS = "mlflow_run.json"


def continue_run(folder: Path, key: str, goes_on: bool) -> None:
    """Let this process's MLflow run be that of the training which goes on; else remember it.

    Args:
        folder: Where the training's states are kept.
        key: Names the training.
        goes_on: Whether a state of it is kept.
    """
    outbox = Outbox.current
    begun = None if outbox is None else outbox.replaceable
    if outbox is None or begun is None:
        return
    file = folder / RUNS
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # there is none, or it is spoilt
        runs = {}
    earlier = runs.get(key) if goes_on else None
    if earlier not in (None, begun) and _reopen(outbox, earlier, begun):
        return
    try:
        with drafted(file) as draft:
            draft.write_text(json.dumps(runs | {key: begun}, indent=2), encoding="utf-8")
    except OSError as error:
        logger.warning("Going on with this training would be another MLflow run: %s", error)


def _place(run: Run) -> str:
    """Where a run's artifacts lie beside those of others: a copied project's earlier ones stay."""
    return str(run.info.artifact_uri).rpartition(f"/{run.info.run_id}/")[0]


def _count_on(begun: str, earlier: str) -> None:
    """Let the system's metrics that are measured for a run go on behind those of an earlier one."""
    monitor = run_id_to_system_metrics_monitor.get(begun)
    if monitor is not None:
        monitor._logging_step = monitor._get_next_logging_step(earlier)


def _reopen(outbox: Outbox, earlier: str, begun: str) -> bool:
    """Move what began to an earlier run; False if that cannot be."""
    client = MlflowClient()
    try:
        before, now = client.get_run(earlier), client.get_run(begun)
        if before.info.lifecycle_stage == "deleted" or _place(before) != _place(now):
            return False
        client.update_run(earlier, status="RUNNING")
        if ENDED in before.data.tags:
            client.delete_tag(earlier, ENDED)
        _count_on(begun, earlier)
        client.delete_run(begun)
    except Exception as error:  # no training ends for the sake of its log
        logger.warning("MLflow's run %s cannot be continued: %s", earlier, reason_of(error))
        return False
    outbox.moved[begun], outbox.replaceable = earlier, None
    logger.info("MLflow's run %s is continued", earlier)
    params, tags, known = now.data.params, now.data.tags, before.data.params
    new = [Param(name, value) for name, value in params.items() if name not in known]
    # MLflow takes no second value of a parameter.
    tags |= {name: value for name, value in params.items() if known.get(name, value) != value}
    client.log_batch(earlier, params=new, tags=[RunTag(*tag) for tag in tags.items()])
    return True
