"""Ids looked up in dictionaries are those that joins give, whatever the blocks and the split."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features import dictionary_encoder
from llm_ctr_pipeline.data.features.dictionary_encoder import LookUp
from llm_ctr_pipeline.data.features.encode import Encoded, encode, encode_splits, write_encoded
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary
from llm_ctr_pipeline.data.log.schema import SPLITS, FieldSource, LogSchema, TimeColumn
from llm_ctr_pipeline.data.raw import csv_blocks
from llm_ctr_pipeline.data.raw.raw_log import CheckedLog
from tests.data.logs import changed, checked_log, splitting

LOG = LogSchema(
    dataset="small",
    delimiter=",",
    columns=None,
    label="click",
    ignored=("id",),
    times=(TimeColumn(column="hour", format="YYMMDDHH"),),
    codes=(),
    fields=(
        FieldSource(name="site", kind="categorical", column="site"),
        FieldSource(name="hour", kind="hour", column="hour"),
        FieldSource(name="weekend", kind="weekend", column="hour"),
        FieldSource(name="lacking", kind="absent", column=None),
        FieldSource(name="ip", kind="categorical", column="ip"),
        FieldSource(name="age", kind="numeric", column="age"),
    ),
    splits=splitting(),
)
HELD_OUT = splitting(valid=0.2, test=0.3)
LAST_HELD_OUT = splitting("hour", valid=0.2, test=0.3)


def write_raw(folder: Path, rows: int) -> None:
    for seed, split in enumerate(SPLITS):
        drawn = np.random.default_rng(seed)
        lines = [
            f"{row},{drawn.integers(2)},141021{drawn.integers(24):02d},{drawn.zipf(1.5) % 50:02x},"
            f"{drawn.integers(3 * rows)},{drawn.choice(['', '3', '41.5'])}\n"
            for row in range(rows)
        ]
        (folder / f"{split}.csv").write_text("id,click,hour,site,ip,age\n" + "".join(lines))


def check(
    tmp_path: Path, connection: Backend, schema: LogSchema, every_nth_row: int = 1
) -> CheckedLog:
    return checked_log(connection, tmp_path, schema, tmp_path / "rows", every_nth_row)


def written(connection: Backend, encoded: Encoded, path: Path) -> pa.Table:
    assert isinstance(encoded, LookUp)
    write_encoded(connection, encoded, path)
    return pq.read_table(path)


@pytest.mark.parametrize(
    ("schema", "every_nth_row"),
    [
        (LOG, 1),
        (LOG, 3),
        (changed(LOG, splits=HELD_OUT), 1),
        (changed(LOG, splits=LAST_HELD_OUT), 2),
    ],
    ids=["files", "every third row", "held out", "the last of every other row held out"],
)
@pytest.mark.parametrize("block_bytes", [300, 1 << 23])
def test_looked_up_ids_are_the_joined_ones(
    tmp_path: Path,
    connection: Backend,
    monkeypatch: pytest.MonkeyPatch,
    schema: LogSchema,
    every_nth_row: int,
    block_bytes: int,
) -> None:
    monkeypatch.setattr(csv_blocks, "_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(dictionary_encoder, "_BLOCKS_AT_ONCE", 5)
    write_raw(tmp_path, 400)
    checked = check(tmp_path, connection, schema, every_nth_row)
    vocabulary = fit_vocabulary(checked.split("train").marked, schema, min_count=2)
    vocabulary = connection.create_table("vocabulary", vocabulary)
    rows = 0
    encoded = encode_splits(checked, vocabulary)
    for name in SPLITS:
        found = written(connection, encoded[name], tmp_path / f"{name}.parquet")
        assert (tmp_path / f"{name}.parquet").is_dir() == (block_bytes == 300)
        expected = encode(checked.split(name).table, vocabulary, schema).to_pyarrow()
        assert found.schema.names == ["row", "label", *schema.names]
        assert found.to_pydict() == expected.to_pydict()
        assert found.schema.types == expected.schema.types
        rows += found.num_rows
    assert rows > 100
    assert set(found["lacking"].to_pylist()) == {0}
    assert 0 in found["ip"].to_pylist()


def test_splits_of_one_file_share_the_cells_ids(tmp_path: Path, connection: Backend) -> None:
    """To look them up for each split would reckon each row's split anew, for each column."""
    schema = changed(LOG, splits=HELD_OUT)
    write_raw(tmp_path, 400)
    checked = check(tmp_path, connection, schema)
    vocabulary = fit_vocabulary(checked.split("train").marked, schema, min_count=2)
    train, valid, test = (
        found.columns
        for found in encode_splits(checked, vocabulary).values()
        if isinstance(found, LookUp)
    )
    assert train is valid is test
    assert {*train} == {"site", "hour", "ip", "age"}


def test_a_split_without_any_known_value_is_all_zeros(tmp_path: Path, connection: Backend) -> None:
    write_raw(tmp_path, 50)
    checked = check(tmp_path, connection, LOG)
    vocabulary = fit_vocabulary(checked.split("train").marked, LOG, min_count=1000)
    encoded = encode_splits(checked, vocabulary)["test"]
    found = written(connection, encoded, tmp_path / "test.parquet")
    assert [set(found[name].to_pylist()) for name in LOG.names] == [{0}] * len(LOG.names)
