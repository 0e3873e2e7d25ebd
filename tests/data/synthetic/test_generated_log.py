import csv
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from sklearn.metrics import roc_auc_score

from llm_ctr_pipeline.data.errors import RawLogError, SettingsError
from llm_ctr_pipeline.data.synthetic.generated_log import (
    AVAZU_COLUMNS,
    GeneratedLog,
    GeneratedLogSettings,
    provide_generated_log,
)
from llm_ctr_pipeline.data.synthetic.manifest import read_manifest

SETTINGS = GeneratedLogSettings(
    train_rows=3000, valid_rows=500, test_rows=1000, seed=7, click_rate=0.17
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "generated_log"
    provide_generated_log(folder, SETTINGS)
    return folder


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def changed(settings: GeneratedLogSettings, **changes: int) -> GeneratedLogSettings:
    return GeneratedLogSettings(**(settings.model_dump() | changes))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_format_is_avazus(folder: Path) -> None:
    rows = rows_of(folder / "train.csv")
    hexadecimal = re.compile(r"[0-9a-f]{8}")
    assert tuple(rows[0]) == AVAZU_COLUMNS
    assert len(rows) == 3000
    assert len({row["id"] for row in rows}) == 3000
    for row in rows:
        assert re.fullmatch(r"[0-9]{14,20}", row["id"])
        assert row["click"] in ("0", "1")
        assert 14102100 <= int(row["hour"]) <= 14103023
        assert int(row["hour"]) % 100 < 24
        for name in ("site_id", "site_domain", "app_category", "device_id", "device_ip"):
            assert hexadecimal.fullmatch(row[name])


def test_a_row_is_of_a_site_or_of_an_app(folder: Path) -> None:
    rows = rows_of(folder / "train.csv")
    sites, apps = [row["site_id"] for row in rows], [row["app_id"] for row in rows]
    no_site, no_app = max(set(sites), key=sites.count), max(set(apps), key=apps.count)
    assert all((row["site_id"] == no_site) != (row["app_id"] == no_app) for row in rows)
    assert apps.count(no_app) / len(rows) == pytest.approx(0.64, abs=0.05)
    for name in ("domain", "category"):
        assert len({row[f"site_{name}"] for row in rows if row["site_id"] == no_site}) == 1
        assert len({row[f"app_{name}"] for row in rows if row["app_id"] == no_app}) == 1


def test_the_same_settings_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    provide_generated_log(tmp_path / "again", SETTINGS)
    provide_generated_log(tmp_path / "other", changed(SETTINGS, seed=8))
    again, other = bytes_of(tmp_path / "again"), bytes_of(tmp_path / "other")
    assert again == bytes_of(folder)
    assert again["train.csv"] != other["train.csv"]


def test_the_best_auc_is_that_of_the_truth(folder: Path) -> None:
    manifest = read_manifest(folder, GeneratedLog)
    assert manifest is not None
    assert manifest.best_auc is not None
    for split in ("train", "valid", "test"):
        truth = pyarrow.parquet.read_table(folder / f"{split}_truth.parquet")
        clicks = [int(row["click"]) for row in rows_of(folder / f"{split}.csv")]
        probabilities = truth["probability"].to_numpy()
        assert truth["row"].to_pylist() == list(range(len(clicks)))
        assert manifest.best_auc[split] == roc_auc_score(clicks, probabilities)
        # Better than any other ranking, such as by a noisier probability.
        noise = np.random.default_rng(0).normal(0, 1, len(clicks))
        noisy = np.log(probabilities / (1 - probabilities)) + noise
        assert manifest.best_auc[split] > roc_auc_score(clicks, noisy)


def test_it_is_written_once_and_again_for_other_settings(tmp_path: Path) -> None:
    folder = tmp_path / "generated_log"
    small = changed(SETTINGS, train_rows=50, valid_rows=20, test_rows=20)
    manifest = provide_generated_log(folder, small)
    written = (folder / "train.csv").stat().st_mtime_ns
    assert provide_generated_log(folder, small) == manifest
    assert (folder / "train.csv").stat().st_mtime_ns == written
    provide_generated_log(folder, changed(small, train_rows=60))
    assert len(rows_of(folder / "train.csv")) == 60
    (folder / "valid.csv").unlink()
    provide_generated_log(folder, changed(small, train_rows=60))
    assert len(rows_of(folder / "valid.csv")) == 20
    assert [path.name for path in tmp_path.iterdir()] == ["generated_log"]


def test_it_replaces_no_other_files(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("mine")
    with pytest.raises(RawLogError, match=r"holds files but no generated_log\.json"):
        provide_generated_log(tmp_path, SETTINGS)
    assert bytes_of(tmp_path) == {"train.csv": b"mine"}


def test_more_rows_than_the_memory_holds_are_refused_before_any_is_drawn(tmp_path: Path) -> None:
    many = changed(SETTINGS, train_rows=10**9)
    with pytest.raises(SettingsError, match=r"takes more than 500\.\d GB .*lower generated_log"):
        provide_generated_log(tmp_path / "log", many)
    assert not (tmp_path / "log").exists()
