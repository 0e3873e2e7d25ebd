"""A training that goes on from a kept state goes on with its MLflow run too."""

import json
import logging
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Param, RunTag

from llm_ctr_pipeline.data.storage.atomic import drafted
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
    try:
        file = folder / RUNS
        runs = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        earlier = runs.get(key) if goes_on else None
        if earlier not in (None, begun) and _reopen(outbox, earlier, begun):
            return
        runs[key] = begun
        with drafted(file) as draft:
            draft.write_text(json.dumps(runs, indent=2), encoding="utf-8")
    except Exception as error:
        logger.warning("The MLflow run is a new one (%s)", reason_of(error))


def _reopen(outbox: Outbox, earlier: str, begun: str) -> bool:
    """Move what began to an earlier run; False if there is none any more."""
    client = MlflowClient()
    found = {run.info.run_id: run for run in (client.get_run(earlier), client.get_run(begun))}
    if found[earlier].info.lifecycle_stage == "deleted":
        return False
    client.update_run(earlier, status="RUNNING")
    outbox.moved[begun], outbox.replaceable = earlier, None
    logger.info("The MLflow run goes on too: %s", earlier)
    data, known = found[begun].data, found[earlier].data.params
    new = [Param(name, value) for name, value in data.params.items() if name not in known]
    # MLflow takes no second value of a parameter.
    changed = {
        name: value for name, value in data.params.items() if known.get(name, value) != value
    }
    tags = [RunTag(name, value) for name, value in (data.tags | changed).items()]
    client.log_batch(earlier, params=new, tags=tags)
    client.delete_run(begun)
    return True
