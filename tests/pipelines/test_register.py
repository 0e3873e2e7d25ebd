"""A trained model in MLflow's registry, and served."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests

from llm_ctr_pipeline.data.errors import SettingsError

RunHere = Callable[..., None]
TEST = "data/01_raw/generated_log/test.csv"
PREDICTIONS = "data/07_model_output/single_phase/x4_test_predictions.parquet"


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory,
    make_project: Callable[[Path], Path],
    run_here: RunHere,
) -> Path:
    """A project whose model was trained and registered."""
    folder = make_project(tmp_path_factory.mktemp("registered"))
    run_here(folder)
    run_here(folder, "register", params={"register": {"name": "ctr", "alias": "champion"}})
    return folder


def test_a_trained_model_gets_a_name_with_its_metrics(registered: Path) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{registered}/mlflow.db")
    version = client.get_model_version_by_alias("ctr", "champion")
    assert version.version == 1
    (model,) = client.search_logged_models(
        [each.experiment_id for each in client.search_experiments()]
    )
    report = json.loads(
        (registered / "data/08_reporting/single_phase/evaluation_x4_test.json").read_text()
    )
    metrics = {metric.key: metric for metric in model.metrics}
    assert metrics["test/auc"].value == report["auc"]
    assert metrics["test/auc"].dataset_name == "x4"
    assert report["data_fingerprint"].startswith(metrics["test/auc"].dataset_digest)
    assert version.source == f"models:/{model.model_id}"


def test_what_mlflow_does_not_hold_cannot_be_registered(
    trained_project: Path, run_here: RunHere
) -> None:
    with pytest.raises(SettingsError, match=r"register\.name is not set"):
        run_here(trained_project, "register")
    run_here(trained_project, "train", params={"tracking": False, "training": {"seed": 7}})
    with pytest.raises(SettingsError, match="holds no model of single_phase's checkpoint"):
        run_here(trained_project, "register", params={"register": {"name": "ctr"}})


@contextmanager
def served(project: Path) -> Iterator[str]:
    """MLflow's server of the registered model, and its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    programs = Path(sys.executable).parent
    command = [
        *(str(programs / "mlflow"), "models", "serve", "-m", "models:/ctr@champion"),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    env = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "PATH": f"{programs}:{os.environ['PATH']}",
    }
    with subprocess.Popen(command, env=env, cwd=project, start_new_session=True) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            while True:
                assert process.poll() is None, "the server ended"
                with suppress(requests.ConnectionError):
                    requests.get(f"{address}/ping", timeout=60).raise_for_status()
                    break
                time.sleep(0.2)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def ask(address: str, body: Any) -> tuple[int, Any]:
    answer = requests.post(f"{address}/invocations", json=body, timeout=60)
    return answer.status_code, answer.json()


@pytest.mark.slow
def test_a_served_model_answers_raw_rows_as_they_were_tested(registered: Path) -> None:
    raw = pd.read_csv(registered / TEST, dtype=str, keep_default_na=False)
    rows = raw.drop(columns=["click", "id"]).to_dict("records")
    tested = pd.read_parquet(registered / PREDICTIONS)["probability"].to_numpy()
    with served(registered) as address:
        for number in (1, 10_000):
            many = (rows * (number // len(rows) + 1))[:number]
            status, answer = ask(address, {"dataframe_records": many})
            assert status == 200
            expected = np.resize(tested, number)
            np.testing.assert_allclose(answer["predictions"], expected, rtol=1e-5)
        as_numbers = rows[0] | {"C1": int(rows[0]["C1"]), "device_id": None}
        status, answer = ask(address, {"dataframe_records": [as_numbers]})
        assert status == 200
        for bad, said in (
            (rows[0] | {"hour": "x"}, "row 0, column 'hour': 'x' is not YYMMDDHH"),
            ({k: v for k, v in rows[0].items() if k != "C14"}, "C14"),
            (rows[0] | {"C14": [1]}, "column 'C14', row 0: [1] is neither text nor a number"),
            (rows[0] | {"C14": 1.5}, "column 'C14', row 0: 1.5 is a number with a fraction"),
        ):
            status, answer = ask(address, {"dataframe_records": [bad]})
            assert status == 400
            assert said in answer["message"]
        assert ask(address, {"dataframe_records": "x"})[0] == 400
        assert ask(address, {"nothing": []})[0] == 400
