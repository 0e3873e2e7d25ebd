"""Trained models behind `mlflow models serve`: raw rows in JSON to probabilities, over loopback."""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import requests

from llm_ctr_pipeline.resolvers import tracking_uri
from llm_ctr_pipeline.serving.scorer import Scorer
from llm_ctr_pipeline.tracking.logged_model import find_logged, weights_of

MODELS = Path("data/06_models")
RAW_ROWS = Path("data/01_raw/generated_log/test.csv")
CLIENTS = (1, 4)
ROUNDS = 5  # of each server, in turn
START_SECONDS = 120
ANSWER_SECONDS = 60
FEWEST_CALLS = 4  # of a client in a round


@dataclass(frozen=True)
class _Took:
    """Seconds: of each call, of each round, and of the server's processor time in each round."""

    calls: list[float]
    rounds: list[float]
    processor: list[float]

    def cells(self, name: str, rows: int, clients: int) -> dict[str, Any]:
        """Cells of a report, in milliseconds; rows a second as the median round."""
        p50, p95, p99 = (1000 * np.quantile(self.calls, [0.5, 0.95, 0.99])).tolist()
        asked = len(self.calls) / len(self.rounds)
        return {
            **{"": name, "B": rows, "clients": clients, "lowest ms": 1000 * min(self.calls)},
            **{"p50 ms": p50, "p95 ms": p95, "p99 ms": p99, "p99 / p50": p99 / p50},
            "rows/s": rows * asked / statistics.median(self.rounds),
            "processor ms": 1000 * statistics.median(self.processor) / asked,
            "calls": len(self.calls),
        }


def over_http(
    paths: list[str], calls_by_rows: Mapping[int, int], threads: int
) -> Iterator[list[dict[str, Any]]]:
    """Time requests to the servers of some paths in turn.

    Args:
        paths: Training paths whose best models are in the project's folders and in MLflow.
        calls_by_rows: How many requests of so many rows each server gets, from all clients.
        threads: PyTorch's threads in a server.

    Yields:
        Cells of a report, one for each path, for each number of rows and of clients.
    """
    scorers = {path: Scorer.load(MODELS / path / "best_model") for path in paths}
    columns = [*scorers[paths[0]].columns]
    raw = pd.read_csv(RAW_ROWS, usecols=columns, dtype=str, keep_default_na=False)
    with ExitStack() as servers:
        served = {path: servers.enter_context(_served(path, threads)) for path in paths}
        for rows, calls in calls_by_rows.items():
            lots = [raw.iloc[at : at + rows] for at in range(0, len(raw) - rows, rows)]
            bodies = [
                json.dumps({"dataframe_records": lot.to_dict("records")}).encode() for lot in lots
            ]
            for path, (url, _) in served.items():
                found = json.loads(_post(requests.Session(), url, bodies[0]))["predictions"]
                np.testing.assert_allclose(found, scorers[path].predict(lots[0]), rtol=1e-5)
            for clients in CLIENTS:
                each = max(FEWEST_CALLS, calls // ROUNDS // clients)
                took = {path: _Took([], [], []) for path in paths}
                for number in range(ROUNDS):
                    for path, (url, group) in served.items():
                        start, before = time.perf_counter(), _processor_seconds(group)
                        took[path].calls.extend(_ask(url, bodies, clients, each, number))
                        took[path].rounds.append(time.perf_counter() - start)
                        took[path].processor.append(_processor_seconds(group) - before)
                yield [took[path].cells(path, rows, clients) for path in paths]


def _ask(url: str, bodies: list[bytes], clients: int, calls: int, number: int) -> list[float]:
    """Let clients ask at the same time, each one request after the other: seconds of each."""

    def ask(client: int) -> list[float]:
        times = []
        with requests.Session() as session:
            for call in range(calls):
                body = bodies[((number * clients + client) * calls + call) % len(bodies)]
                start = time.perf_counter()
                _post(session, url, body)
                times.append(time.perf_counter() - start)
        return times

    with ThreadPoolExecutor(clients) as pool:
        return [each for times in pool.map(ask, range(clients)) for each in times]


def _post(session: requests.Session, url: str, body: bytes) -> bytes:
    headers = {"Content-Type": "application/json"}
    answer = session.post(url, data=body, headers=headers, timeout=ANSWER_SECONDS)
    answer.raise_for_status()
    return answer.content


@contextmanager
def _served(path: str, threads: int) -> Iterator[tuple[str, int]]:
    """Serve a path's best model as the page on serving says, and stop the server at the end.

    Yields:
        Where it takes requests, and its process group.
    """
    mlflow.set_tracking_uri(tracking_uri())
    logged = find_logged(weights_of(MODELS / path / "best_model"))
    if logged is None:
        raise SystemExit(f"MLflow has no model of {path}: train it with tracking")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    programs = Path(sys.executable).parent
    command = [
        *(str(programs / "mlflow"), "models", "serve", "-m", f"models:/{logged.model_id}"),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    changes = {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking_uri(),
        "OMP_NUM_THREADS": str(threads),
    }
    server = subprocess.Popen(  # noqa: S603 - the command above
        command,
        env={**os.environ, **changes},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/ping", server)
        yield f"http://127.0.0.1:{port}/invocations", server.pid
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # what it started too
        server.wait()


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    for _ in range(START_SECONDS):
        try:
            requests.get(url, timeout=1).raise_for_status()
        except requests.RequestException:
            if server.poll() is not None:
                break
            time.sleep(1)
        else:
            return
    raise SystemExit(f"the server at {url} did not come up")


def _processor_seconds(group: int) -> float:
    """Processor time of a process group until now; Linux only."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended
            fields = file.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
