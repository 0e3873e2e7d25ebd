"""Logs other than Avazu: by configuration alone they are preprocessed, trained on and tested."""

import contextlib
import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from llm_ctr_pipeline.data.log.schema import SPLITS, LogSchema
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog, open_raw_rows
from tests.records import content_of

TRAINING: dict[str, Any] = {
    "model": {"embedding_dim": 4, "projector_dim": 16},
    "llm": {
        "architecture": {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
        }
    },
    "training": {"epochs": 1, "batch_size": 128},
}

# A log that no configuration of the project knows, as the page on data sets describes it.
PAGE = Path(__file__).parents[2] / "docs" / "data_sets.md"
CLUBS_GLOBALS, CLUBS_PARAMETERS = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
CLUBS: dict[str, Any] = yaml.safe_load(CLUBS_PARAMETERS)["log"]
# What the page says to make MovieLens-100K's rows with.
(MAKE_MOVIELENS_100K,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


USERS = {1: "02139", 2: "N4T1A", 3: "99999"}


def write_criteo(folder: Path, rng: np.random.Generator) -> None:
    rows = 600
    cells: dict[str, Any] = {"label": rng.integers(0, 2, rows).astype(str)}
    for number in range(1, 14):
        values = rng.integers(-2, 3000, rows).astype(str)
        cells[f"I{number}"] = np.where(rng.random(rows) < 0.3, "", values)
    for number in range(1, 27):
        values = np.char.mod("%08x", rng.integers(2**31, size=20))[rng.integers(20, size=rows)]
        cells[f"C{number}"] = np.where(rng.random(rows) < 0.1, "", values)
    pd.DataFrame(cells).to_csv(folder / "train.txt", sep="\t", header=False, index=False)


def write_splits(folder: Path, rng: np.random.Generator, columns: list[str]) -> None:
    """Write codes as BARS has them, each column's behind those of the one before."""
    for split, rows in (("train", 400), ("valid", 100), ("test", 100)):
        cells = {
            column: 100 * position + rng.integers(10, size=rows)
            for position, column in enumerate(columns)
        }
        labels = rng.integers(0, 2, rows)
        pd.DataFrame({"label": labels, **cells}).to_csv(folder / f"{split}.csv", index=False)


def write_frappe(folder: Path, rng: np.random.Generator) -> None:
    context = ["daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city"]
    write_splits(folder, rng, ["user", "item", *context])


def write_movielens(folder: Path, rng: np.random.Generator) -> None:
    write_splits(folder, rng, ["user_id", "item_id", "tag_id"])


def write_movielens_100k(folder: Path, rng: np.random.Generator) -> None:
    """Write files as GroupLens has them, and make rows of them as the page says."""
    flags = np.eye(19, dtype=int)
    genres = ["unknown", "Action", *(f"Genre{number}" for number in range(2, 19))]
    lines = {
        "u.genre": [f"{genre}|{number}" for number, genre in enumerate(genres)],
        "u.user": [f"{user}|{20 + user}|F|writer|{code}" for user, code in USERS.items()],
        "u.item": [
            f"{film}|Été (1995)|0{film}-Jan-199{film}||http://x|"
            + "|".join(map(str, flags[film] + flags[1]))
            for film in range(2, 8)
        ],
        "u.data": [
            "\t".join(
                (*map(str, (rng.integers(1, 4), rng.integers(2, 8), rng.integers(1, 6))), when)
            )
            for when in map(str, 881_250_949 + rng.integers(10**7, size=500))
        ],
    }
    for name, written in lines.items():
        (folder / name).write_text("\n".join(written) + "\n", encoding="latin-1")
    with contextlib.chdir(folder):
        exec(MAKE_MOVIELENS_100K, {})  # noqa: S102 - a page of this project


def write_clubs(folder: Path, rng: np.random.Generator) -> None:
    rows = 500
    cells = {
        "went": rng.integers(0, 2, rows),
        "when": 1_700_000_000 + rng.integers(10**6, size=rows),
        "age": np.where(rng.random(rows) < 0.2, "", rng.integers(10, 80, rows).astype(str)),
        "town": np.array(["Rome", "Oslo", "São Paulo; centre"])[rng.integers(3, size=rows)],
        "note": "ignored",
    }
    pd.DataFrame(cells).to_csv(folder / "clubs.txt", sep=";", header=False, index=False)


WRITERS = {
    "criteo": write_criteo,
    "frappe": write_frappe,
    "movielens": write_movielens,
    "movielens_100k": write_movielens_100k,
    "clubs": write_clubs,
}
FIELDS = {"criteo": 39, "frappe": 10, "movielens": 3, "movielens_100k": 10, "clubs": 4}
ROWS = {"criteo": (480, 60, 60), "frappe": (400, 100, 100), "movielens": (400, 100, 100)}
ROWS |= {"movielens_100k": (400, 50, 50), "clubs": (350, 50, 100)}


def prepare(project: Path, env: str) -> Path:
    """Write a log of this layout, and the configuration of the one that is not shipped."""
    raw = project / "data" / "01_raw" / env
    raw.mkdir(parents=True)
    WRITERS[env](raw, np.random.default_rng(5))
    if env == "clubs":
        conf = project / "conf" / "clubs"
        conf.mkdir()
        (conf / "globals.yml").write_text(CLUBS_GLOBALS)
        (conf / "parameters.yml").write_text(CLUBS_PARAMETERS)
    return raw


def read(project: Path, name: str) -> dict[str, Any]:
    return content_of(project / "data" / name)


@pytest.mark.parametrize("env", WRITERS)
def test_a_log_is_preprocessed(project: Path, run_here: Callable[..., None], env: str) -> None:
    raw = prepare(project, env)
    run_here(project, "preprocess", env=env, params={"raw_dir": str(raw)})
    feature_map = read(project, f"04_feature/{env}/feature_map.json")
    summary = read(project, f"05_model_input/{env}/summary.json")
    assert feature_map["dataset"] == summary["dataset"] == env
    assert len(feature_map["fields"]) == FIELDS[env]
    assert all(field["size"] > 1 for field in feature_map["fields"])
    for split, rows in zip(("train", "valid", "test"), ROWS[env], strict=True):
        encoded = pq.read_table(project / "data" / "05_model_input" / env / f"{split}.parquet")
        assert encoded.num_rows == summary["splits"][split]["rows"]
        assert encoded.num_rows == pytest.approx(rows, abs=1)


def test_the_values_of_a_made_up_log(
    project: Path,
    run_here: Callable[..., None],
    normalise: Callable[[ir.Table, LogSchema], ir.Table],
) -> None:
    raw = prepare(project, "clubs")
    run_here(project, "preprocess", env="clubs")
    rows = pd.read_csv(raw / "clubs.txt", sep=";", header=None, names=CLUBS["columns"], dtype=str)
    whole = {"dataset": "clubs", "splits": CLUBS["splits"] | {"seed": 42}}
    schema = LogSchema(**(CLUBS | whole))
    raw_rows = open_raw_rows(ibis.duckdb.connect(), project / "data/02_intermediate/clubs/raw_rows")
    raw_log = RawLog.from_json(read(project, "02_intermediate/clubs/raw_log.json"))
    checked = CheckedLog(raw_rows, raw_log)
    tables = [normalise(checked.split(split).table, schema) for split in SPLITS]
    splits = [table.to_pandas().set_index("row") for table in tables]
    for earlier, later in itertools.pairwise(splits):
        assert rows["when"][earlier.index].max() <= rows["when"][later.index].min()
    found = pd.concat(splits).sort_index()
    when = pd.to_datetime(rows["when"].astype(int), unit="s")
    buckets = pd.cut(rows["age"].astype(float), [-1, 17, 29, 49, 200], labels=["0", "1", "2", "3"])
    assert found["label"].tolist() == rows["went"].astype(int).tolist()
    assert found["town"].tolist() == rows["town"].tolist()
    assert found["age"].tolist() == buckets.astype(object).fillna("").tolist()
    assert found["hour"].tolist() == when.dt.hour.astype(str).tolist()
    assert found["weekend"].tolist() == (when.dt.dayofweek >= 5).astype(int).astype(str).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("env", WRITERS)
def test_a_log_is_trained_on_and_tested(
    project: Path, run_here: Callable[..., None], env: str
) -> None:
    raw = prepare(project, env)
    run_here(project, env=env, params={**TRAINING, "raw_dir": str(raw)})
    report = read(project, f"08_reporting/single_phase/evaluation_{env}_test.json")
    assert report["dataset"] == env
    assert report["source"] == env
    assert 0 < report["auc"] < 1
    config = read(project, "06_models/single_phase/best_model/config.json")
    own = yaml.safe_load((project / "conf" / env / "parameters.yml").read_text())
    assert own.get("model", {}).get("prompt", "") in json.dumps(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("env", "path"),
    [
        ("frappe", "logistic_regression"),
        ("frappe", "deepfm"),
        ("criteo", "dcnv2"),
        ("movielens", "finalmlp"),
    ],
)
def test_a_baseline_learns_with_the_published_settings(
    project: Path, run_here: Callable[..., None], env: str, path: str
) -> None:
    raw = {"raw_dir": str(prepare(project, env))}
    run_here(project, "preprocess", env=env, params=raw)
    run_here(project, f"train_{path}", env=env, params={**raw, "training": {"epochs": 2}})
    report = read(project, f"08_reporting/{path}/evaluation_{env}_test.json")
    assert 0 < report["auc"] < 1


def test_the_rows_of_movielens_100k(project: Path) -> None:
    raw = prepare(project, "movielens_100k")
    splits = [pd.read_csv(raw / f"{split}.csv", dtype=str) for split in ("train", "valid", "test")]
    found = pd.concat(splits).sort_values(["timestamp", "user", "item"], ignore_index=True)
    given = pd.read_csv(raw / "u.data", sep="\t", dtype=str, header=None)
    given = given.sort_values([3, 0, 1], ignore_index=True)
    assert (
        found[["user", "item", "timestamp"]].to_numpy().tolist()
        == given[[0, 1, 3]].to_numpy().tolist()
    )
    assert found["label"].tolist() == [str(int(rating > "3")) for rating in given[2]]
    assert found["zip3"].tolist() == [USERS[int(user)][:3] for user in given[0]]
    assert found["genres"].tolist() == [f"Action|Genre{film}" for film in given[1]]
    assert found["year"].tolist() == [f"199{film}" for film in given[1]]
    when = pd.to_datetime(given[3].astype(int), unit="s")
    assert found["hour"].astype(int).tolist() == when.dt.hour.tolist()
    assert found["weekday"].astype(int).tolist() == [each.weekday() for each in when]
