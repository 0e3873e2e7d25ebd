"""Encoded splits that are streamed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llm_ctr_pipeline.data.errors import EncodedDataError
from llm_ctr_pipeline.data.input import streamed_split
from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.input.streamed_split import StreamedSplit, open_rows
from tests.data.input.streams import CPU, FIELDS, GROUP, ROWS, batches, numbers, stream
from tests.data.logs import counted


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


def test_rows_that_are_replaced_while_they_are_streamed_are_not_read(
    table: pa.Table, tmp_path: Path
) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(table, path, row_group_size=GROUP)
    streamed = open_rows(EncodedFile(path), FIELDS, "stream", GROUP, counted(table, FIELDS))
    taken = streamed.batches(16, 0, 0, CPU)
    next(taken)
    pq.write_table(table.slice(0, 990), tmp_path / "other", row_group_size=GROUP)
    (tmp_path / "other").rename(path)
    with pytest.raises(EncodedDataError, match=r"train\.parquet was replaced while its rows"):
        list(taken)


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
    monkeypatch.setattr(streamed_split, "free_memory", lambda: free)
    rows = open_rows(file, FIELDS, where, 300, counted(table, FIELDS))  # type: ignore[arg-type]
    assert isinstance(rows, StreamedSplit) is streams
    assert sorted(numbers(batches(rows))) == list(range(ROWS))
