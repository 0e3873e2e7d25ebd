"""Runs that a kill left RUNNING: the next run on the same machine ends them."""

import logging
import os
import socket

from mlflow import MlflowClient
from mlflow.entities import Run

from llm_ctr_pipeline.data.storage.locks import lives
from llm_ctr_pipeline.tracking.outbox import reason_of

logger = logging.getLogger(__name__)

# Tags: which process on which machine logs a run, and how an abandoned one came to its end.
HOST, PROCESS, ENDED = "host", "process", "ended"
NOTE = "killed: its process was gone when the next run began"
# Metrics whose last point says when a run was last seen.
_LAST_SEEN = ("train/loss", "system/cpu_utilization_percentage")


def process_tags() -> dict[str, str]:
    """Name this process and its machine."""
    return {HOST: socket.gethostname(), PROCESS: str(os.getpid())}


def end_abandoned(experiment_id: str, own: str) -> None:
    """End as killed the runs whose processes on this machine are gone; leave all others alone.

    Args:
        experiment_id: The experiment to look in.
        own: The run that has just begun.
    """
    client = MlflowClient()
    try:
        running = client.search_runs(
            [experiment_id],
            f"attributes.status = 'RUNNING' and tags.`{HOST}` = '{socket.gethostname()}'",
        )
        for run in running:
            pid = run.data.tags.get(PROCESS)
            # In containers processes have the same number: this one's may be an earlier one's.
            if run.info.run_id == own or pid is None or (pid != str(os.getpid()) and lives(pid)):
                continue
            client.set_tag(run.info.run_id, ENDED, NOTE)
            client.set_terminated(run.info.run_id, "KILLED", _last_seen(client, run))
            logger.info("MLflow's run %s was left running by a kill: it is ended", run.info.run_id)
    except Exception as error:  # no run ends for the sake of an earlier one's log
        logger.warning("Runs that a kill left running cannot be ended: %s", reason_of(error))


def _last_seen(client: MlflowClient, run: Run) -> int:
    """When a run logged last, in milliseconds since 1970."""
    seen = [run.info.start_time]
    for name in _LAST_SEEN:
        if name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            seen += [metric.timestamp for metric in history]
    return int(max(seen))
