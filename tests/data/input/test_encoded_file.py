"""Encoded splits on disk: read whole, streamed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llm_ctr_pipeline.data.errors import EncodedDataError, StaleDataError
from llm_ctr_pipeline.data.input import encoded_file
from llm_ctr_pipeline.data.input.batches import Batch, EncodedSplit, TrainingRows
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile, StreamedSplit, Where
from llm_ctr_pipeline.data.storage.store_path import StorePath
from tests.data.logs import counted

CPU = torch.device("cpu")
FIELDS = ("a", "b")
ROWS = 1000
GROUP = 64


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "row": np.arange(ROWS),
            "label": rng.integers(0, 2, ROWS).astype(np.int8),
            "b": rng.integers(0, 9, ROWS).astype(np.int32),
            "a": np.arange(ROWS, dtype=np.int32),
        }
    )


@pytest.fixture(scope="module", params=["a file", "a folder", "a store"])
def file(
    request: pytest.FixtureRequest, table: pa.Table, tmp_path_factory: pytest.TempPathFactory
) -> EncodedFile:
    path = tmp_path_factory.mktemp("data") / "train.parquet"
    if request.param == "a store":
        return EncodedFile(put_in_parts(table, StorePath("memory://encoded/train.parquet")))
    if request.param == "a file":
        pq.write_table(table, path, row_group_size=GROUP)
    else:
        path.mkdir()
        for part, start in enumerate(range(0, ROWS, 400)):
            piece = table.slice(start, 400)
            pq.write_table(piece, path / f"part-{part:05d}.parquet", row_group_size=GROUP)
        (path / "_SUCCESS").touch()
    return EncodedFile(path)


def put_in_parts(table: pa.Table, folder: StorePath) -> StorePath:
    for part, start in enumerate(range(0, ROWS, 400)):
        with (folder / f"part-{part:05d}.parquet").open("wb") as stream:
            pq.write_table(table.slice(start, 400), stream, row_group_size=GROUP)
    (folder / "_SUCCESS").write_text("", encoding="utf-8")
    return folder


def stream(file: EncodedFile, buffer_rows: int) -> StreamedSplit:
    return StreamedSplit(file, FIELDS, buffer_rows)


def batches(
    rows: TrainingRows, size: int = 32, seed: int = 1, epoch: int = 0, skip: int = 0
) -> list[Batch]:
    return list(rows.batches(size, seed, epoch, CPU, skip))


def numbers(taken: list[Batch]) -> list[int]:
    """The rows' numbers, which field a holds."""
    return torch.cat([ids_BF[:, 0] for ids_BF, _ in taken]).tolist()


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


@pytest.mark.parametrize("buffer_rows", [1, 100, 300, 10_000])
@pytest.mark.parametrize("size", [1, 32, 333, 5000])
def test_every_row_is_in_one_batch_of_an_epoch_with_its_label(
    file: EncodedFile, table: pa.Table, buffer_rows: int, size: int
) -> None:
    taken = batches(stream(file, buffer_rows), size)
    assert sorted(numbers(taken)) == list(range(ROWS))
    sizes = [len(labels_B) for _, labels_B in taken]
    assert sizes == [size] * (ROWS // size) + ([ROWS % size] if ROWS % size else [])
    for ids_BF, labels_B in taken:
        assert (ids_BF.dtype, labels_B.dtype) == (torch.int32, torch.float32)
        picked = table.take(ids_BF[:, 0].tolist())
        assert labels_B.tolist() == picked["label"].to_pylist()
        assert ids_BF[:, 1].tolist() == picked["b"].to_pylist()


def test_seed_and_epoch_alone_fix_the_order(file: EncodedFile) -> None:
    streamed = stream(file, 300)
    first = numbers(batches(streamed))
    torch.manual_seed(77)
    assert numbers(batches(streamed)) == first
    assert numbers(batches(streamed, seed=2)) != first
    assert numbers(batches(streamed, epoch=1)) != first


def test_rows_of_far_apart_row_groups_meet(file: EncodedFile) -> None:
    """A batch holds rows of several row groups, and neighbours no more often than by chance."""
    taken = batches(stream(file, 500))
    groups = [len({number // GROUP for number in numbers([batch])}) for batch in taken]
    assert np.mean(groups) > 4
    order = np.array(numbers(taken))
    assert np.mean(np.abs(np.diff(order)) == 1) < 0.05


def test_a_buffer_as_large_as_the_split_is_random_over_all_rows(file: EncodedFile) -> None:
    positions = np.zeros(ROWS)
    for epoch in range(200):
        positions[numbers(batches(stream(file, ROWS), epoch=epoch))] += np.arange(ROWS)
    # Means of 200 uniform positions: standard error 20.4 rows.
    assert np.abs(positions / 200 - (ROWS - 1) / 2).max() < 5 * 20.4


@pytest.mark.parametrize("skip", [1, 7, 31, 32, 40])
def test_an_interrupted_epoch_goes_on_where_it_was(
    file: EncodedFile, table: pa.Table, skip: int
) -> None:
    for rows in (stream(file, 200), file.read(FIELDS, counted(table, FIELDS))):
        whole = batches(rows)
        rest = batches(rows, skip=skip)
        assert len(rest) == max(0, len(whole) - skip)
        assert [b[0].tolist() for b in rest] == [b[0].tolist() for b in whole[skip:]]


def test_no_more_than_two_buffers_are_read_ahead(
    file: EncodedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    real = StreamedSplit._read

    def noted(self: StreamedSplit, groups: list) -> EncodedSplit:
        rows = real(self, groups)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(StreamedSplit, "_read", noted)
    handed_out = 0
    for _, labels_B in stream(file, 128).batches(16, 0, 0, CPU):
        handed_out += len(labels_B)
        assert sum(read) - handed_out <= 3 * 128 + 16


@pytest.mark.parametrize(
    ("where", "free", "streams"),
    [
        ("memory", 0, False),
        ("stream", 1 << 40, True),
        ("auto", 2 * ROWS * 12 + 1, False),
        ("auto", 2 * ROWS * 12, True),
    ],
)
def test_what_does_not_fit_is_streamed(
    file: EncodedFile,
    table: pa.Table,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    free: int,
    streams: bool,
) -> None:
    monkeypatch.setattr(encoded_file, "free_memory", lambda: free)
    rows = file.open(FIELDS, where, 300, counted(table, FIELDS))  # type: ignore[arg-type]
    assert isinstance(rows, StreamedSplit) is streams
    assert sorted(numbers(batches(rows))) == list(range(ROWS))


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
    assert len(EncodedFile(folder).open(FIELDS, where, 300, counted(table, FIELDS))) == ROWS
    damage(folder, table)
    with pytest.raises(StaleDataError) as refused:
        EncodedFile(folder).open(FIELDS, where, 300, counted(table, FIELDS))
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rows_that_are_replaced_while_they_are_streamed_are_not_read(
    table: pa.Table, tmp_path: Path
) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(table, path, row_group_size=GROUP)
    streamed = EncodedFile(path).open(FIELDS, "stream", GROUP, counted(table, FIELDS))
    taken = streamed.batches(16, 0, 0, CPU)
    next(taken)
    pq.write_table(table.slice(0, 990), tmp_path / "other", row_group_size=GROUP)
    (tmp_path / "other").rename(path)
    with pytest.raises(EncodedDataError, match=r"train\.parquet was replaced while its rows"):
        list(taken)


def test_an_empty_split_is_read(table: pa.Table, tmp_path: Path) -> None:
    empty = table.slice(0, 0)
    pq.write_table(empty, tmp_path / "rows.parquet")
    ours = counted(table, FIELDS).model_copy(update={"rows": 0, "ids_fingerprint": "0" * 16})
    assert len(EncodedFile(tmp_path / "rows.parquet").read(FIELDS, ours)) == 0
