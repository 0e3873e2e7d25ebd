"""What MLflow does not take waits in a folder until it does.

A run is worth more than its log: a server that goes away, a database that is locked or a full disk
must not end it. MLflow has no place to catch that once, so while a run goes on the methods by which
its client writes are replaced: by the fluent functions, kedro-mlflow's datasets and hooks, all pass
them.
"""

import functools
import inspect
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.durable import lock_folder
from llm_ctr_pipeline.redaction import redacted

logger = logging.getLogger(__name__)

# Below the project's root; a folder for each run.
WAITING = Path("data/08_reporting/mlflow_waiting")
# Where `mlflow ui` shows a database.
LOCAL_SERVER = "http://127.0.0.1:5000"
RETRY_SECONDS = 600.0  # a server that hangs takes a minute each time
CALLS = "calls.jsonl"
_WRITES = (
    *("log_artifact", "log_batch", "log_inputs", "log_metric", "log_param"),
    *("set_tag", "set_terminated"),
)


def _input(dataset: dict[str, Any], tags: list[dict[str, str]]) -> DatasetInput:
    return DatasetInput(Dataset(**dataset), [InputTag(**tag) for tag in tags])


_ENTITIES: dict[str, Callable[..., Any]] = {
    "metrics": Metric,
    "params": Param,
    "tags": RunTag,
    "datasets": _input,
}
# When it happened, where MLflow would take the time of its being sent.
_TIMES = {"log_metric": "timestamp", "set_terminated": "end_time"}


class TrackingError(RefusedError):
    """MLflow cannot be used."""


class Outbox:
    """Stands between a run and MLflow: what MLflow does not take is kept, and sent later.

    Attributes:
        current: The one that is open in this process.
        moved: Runs whose writes go to another: their ids, and that run's.
        replaceable: The run that began with this process, whose place another may take.
    """

    current: ClassVar["Outbox | None"] = None

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._methods = {name: getattr(MlflowClient, name) for name in _WRITES}
        self._failed_at: float | None = None
        self._held: dict[str, int | None] = {}
        self._lost = False
        self._turn = threading.RLock()  # the system's metrics come from a thread of MLflow's
        self._early: list[tuple[MlflowClient, str, dict[str, Any]]] | None = []
        self.moved: dict[str, str] = {}
        self.replaceable: str | None = None

    @property
    def is_failing(self) -> bool:
        """Whether MLflow did not take what it was given last."""
        return self._failed_at is not None

    def open(self) -> None:
        """Catch from now on what MLflow's client writes."""
        for name, method in self._methods.items():
            setattr(MlflowClient, name, self._caught(name, method))
        Outbox.current = self

    def close(self) -> None:
        """Leave MLflow's client as it was, and send what is kept; say so if that fails again."""
        with self._turn:
            self._tell_early()
        for name, method in self._methods.items():
            setattr(MlflowClient, name, method)
        Outbox.current = None
        for run_id in [*self._held]:
            try:
                self.send(MlflowClient(), run_id)
            except Exception as error:
                logger.warning(
                    "MLflow still cannot be used (%s): `kedro upload` sends what waits in %s",
                    reason_of(error),
                    self._folder / run_id,
                )
            else:
                logger.info("MLflow has now been sent what it did not take before")

    def send(self, client: MlflowClient, run_id: str) -> None:
        """Send what is kept of a run, and delete it; nothing if nothing is.

        Sending twice changes nothing: everything carries its time.

        Raises:
            TrackingError: The run is going on in another process, which sends it.
            Exception: What MLflow raises; all is still kept.
        """
        folder = self._folder / run_id
        if not folder.is_dir():
            return
        descriptor = self._held.pop(run_id) if run_id in self._held else _lock(folder)
        try:
            calls, artifacts = folder / CALLS, folder / "artifacts"
            for line in calls.read_text(encoding="utf-8").splitlines() if calls.exists() else ():
                try:
                    call = json.loads(line)
                except ValueError:  # empty, or cut off by a kill or a full disk
                    continue
                for kind in _ENTITIES.keys() & call.keys():
                    call[kind] = [_ENTITIES[kind](**fields) for fields in call[kind]]
                self._write(client, call.pop("call"), run_id, call)
            if artifacts.is_dir():
                client.log_artifacts(run_id, str(artifacts))
            shutil.rmtree(folder)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _caught(self, name: str, method: Callable[..., Any]) -> Callable[..., None]:
        signature = inspect.signature(method)

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> None:
            arguments = signature.bind(*args, **kwargs).arguments
            if "synchronous" in signature.parameters:  # else a thread of MLflow's would fail
                arguments["synchronous"] = True
            client, run_id = arguments.pop("self"), arguments.pop("run_id")
            with self._turn:
                self._tell_in_order(client, name, run_id, _without_secrets(arguments))

        return call

    def _tell_in_order(
        self, client: MlflowClient, name: str, run_id: str, arguments: dict[str, Any]
    ) -> None:
        """Tell MLflow, the system's metrics behind the first others: it shows what came first."""
        metrics = arguments.get("metrics", ())
        if self._early is not None and metrics and all(map(_is_of_system, metrics)):
            self._early.append((client, run_id, arguments))
            return
        self._tell(client, name, run_id, arguments)
        if metrics:
            self._tell_early()

    def _tell_early(self) -> None:
        early, self._early = self._early or [], None
        for client, run_id, arguments in early:
            self._tell(client, "log_batch", run_id, arguments)

    def _tell(self, client: MlflowClient, name: str, given: str, arguments: dict[str, Any]) -> None:
        run_id = self.moved.get(given, given)
        if name in _TIMES:
            arguments.setdefault(_TIMES[name], time.time_ns() // 1_000_000)
        if self._failed_at is None or time.monotonic() - self._failed_at > RETRY_SECONDS:
            try:
                self.send(client, run_id)  # what is kept of it comes first
                self._write(client, name, run_id, arguments)
            except Exception as error:
                if self._failed_at is None:
                    logger.warning(
                        "MLflow cannot be used (%s): the run goes on, and what it logs waits in %s",
                        reason_of(error),
                        self._folder / run_id,
                    )
                self._failed_at = time.monotonic()
            else:
                self._failed_at = None
                return
        try:
            self._keep(name, run_id, arguments)
        except (OSError, TrackingError) as error:
            if not self._lost:
                logger.warning(
                    "Nor can it be kept (%s): MLflow will lack some of this run; its results lie "
                    "in data/ all the same",
                    reason_of(error),
                )
            self._lost = True

    def _write(
        self, client: MlflowClient, name: str, run_id: str, arguments: dict[str, Any]
    ) -> None:
        try:
            self._methods[name](client, run_id, **arguments)
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            # It would refuse this each time. A parameter may be another where a run is continued.
            if name == "log_param":
                self._methods["set_tag"](client, run_id, arguments["key"], arguments["value"])
            elif params := arguments.get("params"):
                for each in params:
                    told = {"key": each.key, "value": each.value}
                    self._write(client, "log_param", run_id, told)
                self._write(client, name, run_id, arguments | {"params": []})
            else:
                logger.warning("MLflow refuses to log this: %s", reason_of(error))

    def _keep(self, name: str, run_id: str, arguments: dict[str, Any]) -> None:
        folder = self._folder / run_id
        folder.mkdir(parents=True, exist_ok=True)
        if run_id not in self._held:
            self._held[run_id] = _lock(folder)
        if name == "log_artifact":
            _copy(Path(arguments["local_path"]), folder / "artifacts", arguments)
            return
        with (folder / CALLS).open("a", encoding="utf-8") as file:
            # The line's end comes first: a line that was cut off spoils no other.
            file.write("\n" + json.dumps({"call": name} | arguments, default=dict))


def limit_patience() -> None:
    """Let MLflow not wait for a server for minutes, seven times, unless the shell says so."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")


def reason_of(error: BaseException) -> str:
    """What lies at the bottom of an error, in one line: MLflow wraps it several times."""
    while (
        below := error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    ) is not None:
        error = below
    return redacted(" ".join(str(error).split()) or type(error).__name__)[:300]


def _is_of_system(metric: Metric) -> bool:
    return metric.key.startswith("system/")


def _copy(source: Path, folder: Path, arguments: dict[str, Any]) -> None:
    """Copy an artifact to where MLflow would put it below a folder; all of it or nothing."""
    target = folder / (arguments.get("artifact_path") or "") / source.name
    with drafted(target) as draft:
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, draft)


def _without_secrets(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same arguments, without credentials in the values of parameters and tags."""
    cleaned = dict(arguments)
    for kind in {"params", "tags"} & cleaned.keys():
        cleaned[kind] = [
            _ENTITIES[kind](each.key, redacted(str(each.value))) for each in cleaned[kind]
        ]
    if not isinstance(cleaned.get("value", 0), int | float):
        cleaned["value"] = redacted(str(cleaned["value"]))
    return cleaned


def _lock(folder: Path) -> int | None:
    """Lock a run's folder.

    Raises:
        TrackingError: Another process holds it.
    """
    try:
        return lock_folder(folder)
    except BlockingIOError as error:
        raise TrackingError(
            f"{folder} belongs to a run that goes on: it sends what waits there at its end"
        ) from error
