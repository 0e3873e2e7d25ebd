"""The notebooks, run as JupyterLab runs them; in git they are without outputs."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from sklearn.metrics import roc_auc_score

from tests.conftest import PROJECT

FOLDER = PROJECT / "notebooks"
NAMES = sorted(file.stem for file in FOLDER.glob("*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"
COLOUR = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b]*\x1b\\")
MakeProject = Callable[[Path], Path]
Run = Callable[..., None]


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_the_notebooks_are_there() -> None:
    assert NAMES == ["compare_runs", "explore_data", "use_a_model"]


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs_and_counts(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert [cell.outputs for cell in code(notebook)] == [[]] * len(code(notebook))
    assert {cell.execution_count for cell in code(notebook)} == {None}
    # As it is written by nbstripout, with nothing of the machine that it was edited on.
    assert (FOLDER / f"{name}.ipynb").read_text() == nbformat.writes(notebook) + "\n"
    kernel = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    assert notebook.metadata == {"kernelspec": kernel}
    assert {tuple(cell.metadata) for cell in notebook.cells} == {()}


# --- run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """That of a user who works in the test environment, and has no settings of IPython's."""
    changes = {
        "KEDRO_ENV": "test",
        "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
        "OMP_NUM_THREADS": "1",
    }
    with mock.patch.dict(os.environ, changes):
        for name in ("MLFLOW_TRACKING_URI", "KEDRO_LOGGING_CONFIG", "PLOTLY_RENDERER"):
            os.environ.pop(name, None)
        yield


@pytest.fixture(scope="module")
def one_model(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which one path is trained."""
    folder = tmp_path_factory.mktemp("notebooks") / "project"
    shutil.copytree(finished_run, folder)
    shutil.copytree(FOLDER, folder / "notebooks")
    return folder


@pytest.fixture(scope="module")
def project(one_model: Path, tmp_path_factory: pytest.TempPathFactory, run_here: Run) -> Path:
    """A project in which two are."""
    folder = tmp_path_factory.mktemp("notebooks") / "project"
    shutil.copytree(one_model, folder)
    run_here(folder, "train_deepfm")
    return folder


def execute(project: Path, notebook: NotebookNode, **options: Any) -> NotebookNode:
    """Run a notebook opened plainly, from its own folder."""
    at = {"metadata": {"path": str(project / "notebooks")}}
    client = NotebookClient(notebook, timeout=600, resources=at, **options)
    ran: NotebookNode = client.execute()
    return ran


def shown(cell: NotebookNode) -> str:
    """The text that a cell put out."""
    texts = [
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in cell.outputs
    ]
    return COLOUR.sub("", "\n".join(texts))


def text_of(notebook: NotebookNode) -> str:
    """All that a notebook put out as text, and that nothing in it is a warning or an error."""
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {
        "stream",
        "display_data",
        "execute_result",
    }
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    text = "\n".join(shown(cell) for cell in code(notebook))
    assert not re.search(r"warning|traceback|error:", text, re.IGNORECASE), text
    return text


def figures(notebook: NotebookNode) -> dict[str, list[dict[str, Any]]]:
    """The traces of each figure, by its title."""
    bundles = [
        output.data[PLOTLY]
        for cell in code(notebook)
        for output in cell.outputs
        if PLOTLY in output.get("data", {})
    ]
    return {bundle["layout"]["title"]["text"]: bundle["data"] for bundle in bundles}


def frame(text: str, column: str) -> dict[str, list[str]]:
    """The cells of a frame's rows, by their first, of the frame whose head names a column."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if column in line)
    rows: dict[str, list[str]] = {}
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        first, *cells = line.split()
        rows[first] = cells
    return rows


@pytest.mark.slow
def test_the_data_are_explored(project: Path) -> None:
    ran = execute(project, read("explore_data"))
    text, drawn = text_of(ran), figures(ran)
    assert "x4: generated log" in text
    assert frame(text, "unknown ids")["train"][0] == "2,000"

    raw = pd.read_csv(project / "data/01_raw/generated_log/train.csv", dtype=str)
    rate = raw["click"].astype(int).groupby(raw["hour"].str[-2:].astype(int)).mean()
    _, by_hour = drawn["Click rate by hour"]
    assert by_hour["x"] == rate.index.tolist()
    np.testing.assert_allclose(by_hour["y"], rate)

    sizes = json.loads((project / "data/04_feature/x4/feature_map.json").read_text())["fields"]
    (bars,) = drawn["Vocabulary sizes"]
    named = dict(zip(bars["y"], bars["x"], strict=True))
    assert named == {field["name"]: field["size"] - 1 for field in sizes if field["size"] > 1}

    unknown = {trace["name"]: trace for trace in drawn["Cells without an id of their own"]}
    counted = pd.read_parquet(project / "data/05_model_input/x4/test.parquet")
    share = [(counted[field] == 0).mean() for field in unknown["test"]["y"]]
    np.testing.assert_allclose(unknown["test"]["x"], share)

    truth = pd.read_parquet(project / "data/01_raw/generated_log/test_truth.parquet")
    auc = roc_auc_score(counted.sort_values("row")["label"], truth["probability"])
    assert float(frame(text, "logloss")["test"][0]) == round(auc, 4)
    for trace in drawn["True click probabilities, test"]:
        assert sum(trace["y"]) == pytest.approx(1)

    (points,) = drawn["Click rate by field and value"]
    banner = raw.groupby("banner_pos")["click"].agg(lambda clicks: clicks.astype(int).mean())
    of_banner = {
        text.removeprefix("banner_pos ").partition(":")[0]: rate
        for text, rate in zip(points["text"], points["x"], strict=True)
        if text.startswith("banner_pos ")
    }
    assert len(of_banner) > 1
    assert of_banner == {value: pytest.approx(banner[value]) for value in of_banner}


@pytest.mark.slow
def test_runs_are_compared(project: Path) -> None:
    ran = execute(project, read("compare_runs"))
    text, drawn = text_of(ran), figures(ran)
    assert "hybrid is not trained: run `kedro run --pipeline=train_hybrid`" in text
    assert "deepfm is not trained" not in text
    runs = frame(text, "tags.path")
    assert [cells[1] for cells in [*runs.values()][1:]] == ["FINISHED", "FINISHED"]

    assert {trace["name"] for trace in drawn["Validation AUC while training"]} == {
        "deepfm",
        "single_phase",
    }
    for trace in drawn["Validation AUC while training"]:
        epochs = results(project, trace["name"])["epochs"]
        assert trace["y"] == [epoch["valid_auc"] for epoch in epochs]
        assert trace["x"] == list(np.cumsum([epoch["seconds"] for epoch in epochs]))
    curves = {title for title in drawn if title.startswith("Learning curve")}
    assert curves == {"Learning curve, deepfm", "Learning curve, single_phase"}

    auc = {}
    for path in ("deepfm", "single_phase"):
        tested = pd.read_parquet(
            project / f"data/07_model_output/{path}/x4_test_predictions.parquet"
        )
        auc[path] = roc_auc_score(tested["label"], tested["probability"])
    (difference,) = drawn["What each model's AUC is above deepfm's"]
    low, value, high = difference["x"]
    assert value == pytest.approx(auc["single_phase"] - auc["deepfm"])
    assert low < value < high
    assert frame(text, "AUC − deepfm")["deepfm"][0] == f"{auc['deepfm']:.4f}"
    assert {trace["name"].partition(",")[0] for trace in drawn["Calibration"]} >= {*auc}


def results(project: Path, path: str) -> dict[str, Any]:
    file = project / "data/08_reporting" / path / "training_results.json"
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.slow
def test_a_model_is_used(project: Path) -> None:
    ran = execute(project, read("use_a_model"))
    text, drawn = text_of(ran), figures(ran)
    tested = pd.read_parquet(
        project / "data/07_model_output/single_phase/x4_test_predictions.parquet"
    )
    scores = [float(cells[1]) for cells in [*frame(text, "site_domain").values()]]
    np.testing.assert_allclose(scores, tested["probability"][: len(scores)], atol=1e-6)

    apart = re.search(r"Logits at most (\S+) from the model's own", text)
    assert apart is not None
    assert float(apart[1]) < 1e-5
    parts = frame(text, "layer 1")
    layer_1 = [float(cells[-1].rstrip("%")) for cells in parts.values() if cells]
    assert len(layer_1) == 2
    assert sum(layer_1) == pytest.approx(100, abs=0.11)
    (heat,) = drawn["Share of the answer's attention"]
    of_tokens = 100 * np.sum(heat["z"])
    assert of_tokens == pytest.approx(layer_1[1], abs=0.06)

    (lost,) = drawn["AUC lost when a field is shuffled"]
    assert sorted(lost["y"]) == sorted(heat["y"])
    assert max(lost["x"]) > 0.01
    (both,) = drawn["Attention and importance"]
    attention = dict(zip(heat["y"], (z[-1] for z in heat["z"]), strict=True))
    assert both["x"] == [attention[field] for field in both["customdata"]]
    assert both["y"] == lost["x"]


@pytest.mark.slow
def test_a_model_that_is_missing_is_told_with_its_command(one_model: Path) -> None:
    text = text_of(execute(one_model, read("compare_runs")))
    assert "One model alone is not compared: run `kedro run --pipeline=train_deepfm`" in text


@pytest.mark.slow
def test_where_nothing_ran_a_line_says_what_to_run(
    tmp_path: Path, make_project: MakeProject
) -> None:
    project = make_project(tmp_path)
    (project / "notebooks").mkdir()
    first = read("explore_data")
    # One start for all: what comes after the extension in each.
    first.cells = [code(first)[0], *(code(read(name))[1] for name in NAMES)]
    ran = execute(project, first, allow_errors=True)
    told = [cell.outputs[-1].traceback for cell in ran.cells[1:]]
    assert told == [
        ["Nothing is trained yet: run `kedro run`, which `make run` does"],
        ["Nothing is preprocessed yet: run `kedro run --pipeline=preprocess`"],
        ["single_phase is not trained: run `kedro run --pipeline=train`"],
    ]
