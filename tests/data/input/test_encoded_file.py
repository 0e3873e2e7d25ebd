"""Encoded splits on disk."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llm_ctr_pipeline.data.errors import StaleDataError
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile, Where
from llm_ctr_pipeline.data.input.streamed_split import open_rows
from tests.data.input.streams import (
    FIELDS,
    ROWS,
)
from tests.data.logs import counted


def test_reading_gives_the_columns_asked_for_in_the_rows_order(
    file: EncodedFile, table: pa.Table
) -> None:
    split = file.read(FIELDS, counted(table, FIELDS))
    assert len(file) == len(split) == ROWS
    assert (split.ids_NF.dtype, split.labels_N.dtype) == (torch.int32, torch.float32)
    for position, field in enumerate(FIELDS):
        assert split.ids_NF[:, position].tolist() == table[field].to_pylist()
    assert split.labels_N.tolist() == table["label"].to_pylist()


def test_rows_stored_out_of_order_are_put_in_order(table: pa.Table, tmp_path: Path) -> None:
    order = np.random.default_rng(1).permutation(ROWS)
    pq.write_table(table.take(order), tmp_path / "rows.parquet")
    split = EncodedFile(tmp_path / "rows.parquet").read(FIELDS, counted(table, FIELDS))
    assert split.ids_NF[:, 0].tolist() == list(range(ROWS))
    assert split.labels_N.tolist() == table["label"].to_pylist()


def flip(file: Path, place: float) -> None:
    """Flip a bit at this share of a file."""
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 4
    file.write_bytes(content)


def one_part_fewer(folder: Path, _: pa.Table) -> None:
    (folder / "part-00001.parquet").unlink()


def one_part_twice(folder: Path, _: pa.Table) -> None:
    shutil.copy(folder / "part-00001.parquet", folder / "part-00002.parquet")


def cut_off(folder: Path, _: pa.Table) -> None:
    part = folder / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:-10])


def emptied(folder: Path, _: pa.Table) -> None:
    (folder / "part-00001.parquet").write_bytes(b"")


def zeroed(folder: Path, _: pa.Table) -> None:
    part = folder / "part-00001.parquet"
    part.write_bytes(bytes(part.stat().st_size))


def bit_flipped(folder: Path, _: pa.Table) -> None:
    flip(folder / "part-00001.parquet", 0.1)


def one_id(folder: Path, table: pa.Table) -> None:
    values = table["b"].to_pylist()
    values[700] += 1
    replaced(folder, table.set_column(2, "b", pa.array(values, pa.int32())))


def two_fields_swapped(folder: Path, table: pa.Table) -> None:
    replaced(folder, table.rename_columns(["row", "label", "a", "b"]))


def a_field_fewer(folder: Path, table: pa.Table) -> None:
    replaced(folder, table.drop_columns("b"))


def replaced(folder: Path, table: pa.Table) -> None:
    for part, start in enumerate(range(0, ROWS, 400)):
        pq.write_table(table.slice(start, 400), folder / f"part-{part:05d}.parquet")


DAMAGES = [
    *(one_part_fewer, one_part_twice, cut_off, emptied, zeroed, bit_flipped),
    *(one_id, two_fields_swapped, a_field_fewer),
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("where", ["memory", "stream"])
def test_rows_are_those_that_were_counted(
    table: pa.Table, tmp_path: Path, damage: Callable[[Path, pa.Table], None], where: Where
) -> None:
    folder = tmp_path / "train.parquet"
    folder.mkdir()
    replaced(folder, table)
    assert len(open_rows(EncodedFile(folder), FIELDS, where, 300, counted(table, FIELDS))) == ROWS
    damage(folder, table)
    with pytest.raises(StaleDataError) as refused:
        open_rows(EncodedFile(folder), FIELDS, where, 300, counted(table, FIELDS))
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_split_is_read(table: pa.Table, tmp_path: Path) -> None:
    empty = table.slice(0, 0)
    pq.write_table(empty, tmp_path / "rows.parquet")
    ours = counted(table, FIELDS).model_copy(update={"rows": 0, "ids_fingerprint": "0" * 16})
    assert len(EncodedFile(tmp_path / "rows.parquet").read(FIELDS, ours)) == 0


def test_rows_come_as_a_frame_too(file: EncodedFile, table: pa.Table) -> None:
    whole = table.to_pandas()
    assert file.to_pandas().equals(whole)
    for rows in (0, 1, 401, ROWS + 1):
        assert file.to_pandas(rows).equals(whole.head(rows))
