"""Trained models behind `mlflow models serve`: raw rows in JSON to probabilities, over loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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
    raw = pd.read_csv(RAW_ROWS, dtype=str, keep_default_na=False).drop(columns="click")
    with ExitStack() as servers:
        urls = {path: servers.enter_context(_served(path, threads)) for path in paths}
        for rows, calls in calls_by_rows.items():
            lots = [raw.iloc[at : at + rows] for at in range(0, len(raw) - rows, rows)]
            bodies = [
                json.dumps({"dataframe_records": lot.to_dict("records")}).encode() for lot in lots
            ]
            for path, url in urls.items():
                found = json.loads(_post(requests.Session(), url, bodies[0]))["predictions"]
                expected = Scorer.load(MODELS / path / "best_model").predict(lots[0])
                np.testing.assert_allclose(found, expected, rtol=1e-5)
            for clients in CLIENTS:
                each = max(FEWEST_CALLS, calls // ROUNDS // clients)
                times: dict[str, list[float]] = {path: [] for path in paths}
                walls: dict[str, list[float]] = {path: [] for path in paths}
                for number in range(ROUNDS):
                    for path, url in urls.items():
                        start = time.perf_counter()
                        times[path] += _ask(url, bodies, clients, each, number)
                        walls[path].append(time.perf_counter() - start)
                yield [
                    _cells(path, times[path], walls[path], rows, clients, each * clients)
                    for path in paths
                ]


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
def _served(path: str, threads: int) -> Iterator[str]:
    """Serve a path's best model as the page on serving says, and stop the server at the end."""
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
        yield f"http://127.0.0.1:{port}/invocations"
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


def _cells(
    name: str, times: list[float], walls: list[float], rows: int, clients: int, calls: int
) -> dict[str, Any]:
    p50, p95, p99 = (1000 * np.quantile(times, [0.5, 0.95, 0.99])).tolist()
    return {
        **{"": name, "B": rows, "clients": clients},
        **{"p50 ms": p50, "p95 ms": p95, "p99 ms": p99, "p99 / p50": p99 / p50},
        "rows/s": float(np.median([calls * rows / wall for wall in walls])),
        "calls": len(times),
    }
