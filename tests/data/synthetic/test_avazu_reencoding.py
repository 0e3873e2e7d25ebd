from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import ibis
import ibis.expr.types as ir
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from ibis.backends.duckdb import Backend
from sklearn.metrics import roc_auc_score

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.log.schema import SPLITS, LogSchema
from llm_ctr_pipeline.data.raw.checks import read_raw_file
from llm_ctr_pipeline.data.raw.csv_text import open_csv
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog
from llm_ctr_pipeline.data.storage.engine import read_parquet
from llm_ctr_pipeline.data.synthetic.avazu_reencoding import (
    RecodedLog,
    RecodedRows,
    Recoding,
    provide_recoded_log,
    rows_of_log,
)
from llm_ctr_pipeline.data.synthetic.generated_log import (
    AVAZU_FIELDS,
    GeneratedLogSettings,
    first_rows,
    provide_generated_log,
    read_truth,
)
from llm_ctr_pipeline.data.synthetic.manifest import Manifest, read_manifest
from tests.data.logs import checked_log

SETTINGS = GeneratedLogSettings(
    train_rows=3000, valid_rows=500, test_rows=1000, seed=7, click_rate=0.17
)
RECODINGS = {
    "x1": Recoding(valid_share=0.1, test_share=0.2, seed=1),
    "x2": Recoding(valid_share=0.0, test_share=0.2, seed=2),
}
SHIPPED = Path(__file__).parents[3] / "conf" / "base" / "parameters_preprocess_all.yml"

Recode = Callable[..., Manifest[RecodedLog]]
Normalise = Callable[[ir.Table, LogSchema], ir.Table]


@pytest.fixture(scope="module")
def schemas() -> dict[str, LogSchema]:
    described = yaml.safe_load(SHIPPED.read_text())
    return {name: LogSchema(**described[name]["log"]) for name in RECODINGS}


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw") / "generated_log"
    provide_generated_log(folder, SETTINGS)
    return folder


def made_with(dataset: str, source: str = "here", **changes: Any) -> RecodedLog:
    settings = Recoding(**(RECODINGS[dataset].model_dump() | changes))
    made_from = RecodedRows(source=source, splits={})
    return RecodedLog(dataset=dataset, settings=settings, made_from=made_from)


def checked(
    path: Path, connection: Backend, schema: LogSchema, every_nth_row: int = 1
) -> CheckedLog:
    rows = path.with_name(f"{path.name}_{uuid4()}_rows")
    return checked_log(connection, path, schema, rows, every_nth_row)


def splits_of(
    path: Path, connection: Backend, schema: LogSchema, every_nth_row: int = 1
) -> dict[str, ir.Table]:
    """The raw rows of a log's splits."""
    log = checked(path, connection, schema, every_nth_row)
    return {name: log.split(name).table for name in SPLITS}


@pytest.fixture(scope="module")
def recoded(generated: Path, x4: LogSchema) -> Path:
    """The folder of the generated log's x1 and x2; only to be read."""
    connection = ibis.duckdb.connect()
    raw = splits_of(generated, connection, x4)
    rows = rows_of_log(raw, first_rows(generated))
    truth = read_truth(connection, generated)
    for dataset in RECODINGS:
        folder = generated.parent / dataset
        provide_recoded_log(folder, connection, made_with(dataset), rows, truth)
    return generated.parent


@pytest.fixture
def recode(connection: Backend, tmp_path: Path, generated: Path, x4: LogSchema) -> Recode:
    """Write the generated log, or some splits of it, in another encoding."""

    def write(
        dataset: str, splits: tuple[str, ...] = SPLITS, **changes: Any
    ) -> Manifest[RecodedLog]:
        raw = splits_of(generated, connection, x4)
        rows = rows_of_log({split: raw[split] for split in splits}, first_rows(generated))
        folder = tmp_path / dataset
        truth = read_truth(connection, generated) if splits == SPLITS else None
        return provide_recoded_log(folder, connection, made_with(dataset, **changes), rows, truth)

    return write


def normalised(
    connection: Backend,
    folder: Path,
    schema: LogSchema,
    splits: tuple[str, ...],
    kept_in: Path,
    normalise: Normalise,
) -> pd.DataFrame:
    """The unified rows of some splits, by their number in the generated log."""
    frames = []
    for split in splits:
        csv = open_csv(folder / f"{split}.csv", schema)
        file = kept_in / f"{folder.name}_{split}.parquet"
        read_raw_file(connection, csv, file)
        frame = normalise(read_parquet(connection, file), schema).order_by("row").to_pandas()
        truth = pq.read_table(folder / f"{split}_truth.parquet").to_pandas()
        assert truth["row"].tolist() == frame["row"].tolist() == [*range(len(frame))]
        frames.append(frame.assign(log_row=truth["log_row"].to_numpy()))
    return pd.concat(frames).set_index("log_row").sort_index()


def test_the_same_truth_comes_out_of_all_three_encodings(
    connection: Backend,
    generated: Path,
    recoded: Path,
    x4: LogSchema,
    schemas: dict[str, LogSchema],
    tmp_path: Path,
    normalise: Normalise,
) -> None:
    raw = splits_of(generated, connection, x4)
    parts = [normalise(table, x4).order_by("row").to_pandas() for table in raw.values()]
    first = pd.concat(parts, ignore_index=True)
    assert len(first) == 4500
    for dataset, recoding in RECODINGS.items():
        splits = tuple(recoding.bounds)
        other = normalised(
            connection, recoded / dataset, schemas[dataset], splits, tmp_path, normalise
        )
        assert other.index.tolist() == [*range(4500)]
        assert other["label"].tolist() == first["label"].tolist()
        absent = {"C21", "weekday", "weekend"} if dataset == "x1" else set()
        for field in x4.names:
            if field in absent:
                assert other[field].isna().all()
            elif field in x4.time_fields:
                assert other[field].tolist() == first[field].tolist(), field
            else:
                pairs = set(zip(first[field], other[field], strict=True))
                assert len(pairs) == first[field].nunique() == other[field].nunique(), field


def test_the_layouts_are_the_published_ones(recoded: Path) -> None:
    x1 = pd.read_csv(recoded / "x1" / "train.csv")
    x2 = pd.read_csv(recoded / "x2" / "train.csv")
    assert [*x1.columns] == ["label", *(f"feat_{number}" for number in range(1, 23))]
    assert [*x2.columns] == ["click", *AVAZU_FIELDS, "hour", "mday", "wday"]
    assert x1["feat_21"].nunique() == 38
    assert x1["feat_22"].between(1_544_248, 1_544_271).all()
    assert x2["hour"].between(645_164, 645_187).all()
    assert set(x2["mday"]) == {*range(645_154, 645_164)}
    assert set(x2["wday"]) == {*range(645_188, 645_195)}
    assert {path.name for path in (recoded / "x2").glob("*.csv")} == {"train.csv", "test.csv"}
    whole = pd.concat(pd.read_csv(path) for path in (recoded / "x1").glob("*.csv"))
    codes = {name: {*whole[name]} for name in whole.columns[1:22]}
    # One count over all columns: consecutive within each, and no code in two of them.
    assert sum(len(values) for values in codes.values()) == len(set().union(*codes.values()))
    for values in codes.values():
        assert max(values) - min(values) + 1 == len(values)


def test_the_logs_pass_the_check_and_are_split_as_stated(
    connection: Backend, recoded: Path, schemas: dict[str, LogSchema]
) -> None:
    best_auc = {}
    for dataset in RECODINGS:
        manifest = read_manifest(recoded / dataset, RecodedLog)
        assert manifest is not None
        assert manifest.best_auc is not None
        best_auc[dataset] = manifest.best_auc
    x1 = checked(recoded / "x1", connection, schemas["x1"]).raw_log.splits
    assert sum(found.rows for found in x1.values()) == 4500
    assert x1["train"].rows / 4500 == pytest.approx(0.7, abs=0.02)
    assert x1["valid"].rows / 4500 == pytest.approx(0.1, abs=0.02)
    x2 = checked(recoded / "x2", connection, schemas["x2"]).raw_log.splits
    in_file = x2["train"].rows + x2["valid"].rows
    assert in_file / 4500 == pytest.approx(0.8, abs=0.02)
    assert x2["valid"].rows / in_file == pytest.approx(0.1, abs=1 / in_file)
    truth = pq.read_table(recoded / "x1" / "test_truth.parquet")
    best = roc_auc_score(truth["label"].to_pylist(), truth["probability"].to_pylist())
    assert best_auc["x1"]["test"] == best
    assert best_auc["x2"].keys() == {"train", "test"}


def test_how_many_test_rows_are_trained_on(
    recoded: Path, record_property: Callable[[str, object], None]
) -> None:
    """The reason why every report of a two-phase result comes with a warning."""
    test_rows = range(3500, 4500)
    for dataset, share in (("x1", 0.7), ("x2", 0.8)):
        origin = pq.read_table(recoded / dataset / "train_truth.parquet")["log_row"].to_pylist()
        shared = len({*origin} & {*test_rows}) / 1000
        record_property(f"share_of_test_rows_in_{dataset}_train", shared)
        assert shared == pytest.approx(share, abs=0.05)


def test_training_rows_alone_leave_no_test_row_behind(tmp_path: Path, recode: Recode) -> None:
    assert recode("x1", splits=("train",)).best_auc is None
    origins = [
        pq.read_table(tmp_path / "x1" / f"{split}_truth.parquet")["log_row"].to_pylist()
        for split in SPLITS
    ]
    assert sorted(row for rows in origins for row in rows) == [*range(3000)]


def test_it_is_written_once_and_again_for_other_rows(
    connection: Backend, tmp_path: Path, recode: Recode
) -> None:
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((tmp_path / "x1").iterdir())}

    manifest = recode("x1")
    first, written = content(), (tmp_path / "x1" / "train.csv").stat().st_mtime_ns
    assert recode("x1") == manifest == read_manifest(tmp_path / "x1", RecodedLog)
    assert (tmp_path / "x1" / "train.csv").stat().st_mtime_ns == written
    connection.raw_sql("SET threads = 1")
    (tmp_path / "x1" / "valid.csv").unlink()
    recode("x1")
    assert content()["train.csv"] == first["train.csv"]
    assert content().keys() == first.keys()
    recode("x1", source="elsewhere", seed=3)
    assert content()["train.csv"] != first["train.csv"]
    assert {path.name for path in tmp_path.iterdir()} == {"x1"}


def test_it_replaces_no_other_files(tmp_path: Path, recode: Recode) -> None:
    (tmp_path / "x1").mkdir()
    (tmp_path / "x1" / "train.csv").write_text("mine")
    with pytest.raises(RawLogError, match=r"holds files but no recoded_log\.json"):
        recode("x1")
    assert [path.read_text() for path in (tmp_path / "x1").iterdir()] == ["mine"]


def test_only_a_log_with_avazus_columns_can_be_recoded(
    connection: Backend, generated: Path, x4: LogSchema
) -> None:
    raw = splits_of(generated, connection, x4)
    with pytest.raises(RawLogError, match="'C18' is missing: point x1_raw_dir"):
        rows_of_log({"train": raw["train"].drop("C18")}, {"train": 0})


def test_a_sample_of_a_log_is_recoded_row_by_row(
    connection: Backend, tmp_path: Path, generated: Path, x4: LogSchema
) -> None:
    raw = splits_of(generated, connection, x4, every_nth_row=3)
    rows = rows_of_log(raw, first_rows(generated))
    taken = [*range(0, 3000, 3)]
    taken += [3000 + row for row in range(0, 500, 3)] + [3500 + row for row in range(0, 1000, 3)]
    assert sorted(rows.select("log_row").to_pyarrow()["log_row"].to_pylist()) == taken
    truth = read_truth(connection, generated)
    provide_recoded_log(tmp_path / "x2", connection, made_with("x2"), rows, truth)
    written = [pq.read_table(tmp_path / "x2" / f"{name}_truth.parquet") for name in SPLITS[::2]]
    assert sorted(row for table in written for row in table["log_row"].to_pylist()) == taken
