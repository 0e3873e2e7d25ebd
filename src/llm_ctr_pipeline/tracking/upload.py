"""Sending what waits, when MLflow can be used again."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mlflow import MlflowClient

from llm_ctr_pipeline.redaction import redacted
from llm_ctr_pipeline.resolvers import project_root, tracking_uri
from llm_ctr_pipeline.tracking.outbox import (
    WAITING,
    Outbox,
    TrackingError,
    limit_patience,
    reason_of,
)


def upload_waiting(folders: Iterable[Path] = ()) -> Iterator[str]:
    """Send what runs left in their folders, and delete it there.

    Args:
        folders: Each a run's; none for all that wait.

    Yields:
        The id of each run that was sent.

    Raises:
        TrackingError: MLflow cannot be used, or does not know the run; all is still kept.
    """
    limit_patience()
    uri = tracking_uri()
    for folder in [*folders] or sorted((Path(project_root()) / WAITING).glob("*")):
        try:
            Outbox(folder.resolve().parent).send(MlflowClient(uri), folder.name)
        except TrackingError:
            raise
        except Exception as error:
            raise TrackingError(
                f"MLflow at {redacted(uri)} does not take what waits in {folder} "
                f"({reason_of(error)}): start it, or set MLFLOW_TRACKING_URI to where the run began"
            ) from error
        yield folder.name
