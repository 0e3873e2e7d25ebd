"""Ids in the place of cells, found once for each cell in the dictionary of a block of rows.

A raw file's rows are kept with dictionaries (`csv_to_parquet`): a block of 50,000 rows holds a few
thousand cells that differ in most columns. Their ids are found, and put in the rows' place.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llm_ctr_pipeline.data.log.schema import LABEL, ROW, LogSchema
from llm_ctr_pipeline.data.storage.ordered_map import in_order
from llm_ctr_pipeline.data.storage.store_path import (
    AnyPath,
    parquet_file,
    parquet_writer,
    parts_of,
)

# The ids of so many blocks' cells are found together: the cells with an id are hashed for that.
_BLOCKS_AT_ONCE = 120
# So many blocks, 150,000 rows of Avazu, make a file of encoded rows. A thread writes each: with
# more blocks in a file, threads would wait for the last files of a split.
_BLOCKS_OF_A_FILE = 3

Ids = npt.NDArray[np.int32]
# By field, the id of each cell in a block's dictionary.
BlockIds = Mapping[str, Ids]


@dataclass(frozen=True)
class CellIds:
    """The ids that stand for the cells of one raw column.

    Attributes:
        cells: Cells that differ, strings; those of the file that are not among them have id 0.
        ids: By field that is made of the column, an id for each of them, int32.
    """

    cells: pa.Array
    ids: Mapping[str, Ids]


@dataclass(frozen=True)
class _Block:
    """A row group of a raw file.

    Attributes:
        file: Where it is.
        metadata: That file's.
        number: Its number in the file.
        first: The position of its first row in the raw file.
        rows: How many rows it has.
    """

    file: AnyPath
    metadata: pq.FileMetaData
    number: int
    first: int
    rows: int

    def read(self, columns: Sequence[str], rows: int) -> pa.RecordBatch:
        """Read some columns of so many of the first rows; dictionaries as a whole."""
        options = {"metadata": self.metadata, "read_dictionary": [*columns]}
        with parquet_file(self.file, **options) as file:
            batches = file.iter_batches(
                max(1, rows), row_groups=[self.number], columns=[*columns], use_threads=False
            )
            return next(batches)


@dataclass(frozen=True)
class LookUp:
    """Rows of a raw file that are encoded while they are written.

    Attributes:
        rows: The raw file's rows, as `convert_csv` wrote them.
        chosen: Which of them, bool, one for each; None for all.
        columns: By raw column, its ids.
        schema: The log's description.
        threads: How many to take.
    """

    rows: AnyPath
    chosen: npt.NDArray[np.bool_] | None
    columns: Mapping[str, CellIds]
    schema: LogSchema
    threads: int

    def write(self, path: AnyPath) -> None:
        """Write `row` int64, `label` int8 and one int32 column per field, in the file's order.

        Args:
            path: A Parquet file, or the folder of several that many rows are written to.
        """
        blocks = _blocks_of(self.rows)
        is_one_file = len(blocks) <= _BLOCKS_OF_A_FILE
        if not is_one_file:
            path.mkdir()
        for first in range(0, len(blocks), _BLOCKS_AT_ONCE):
            at_once = blocks[first : first + _BLOCKS_AT_ONCE]
            ids = self._find_ids(at_once)
            files = [
                (
                    path if is_one_file else path / f"part-{(first + begin):06d}.parquet",
                    at_once[begin : begin + _BLOCKS_OF_A_FILE],
                    {name: ids[name][begin : begin + _BLOCKS_OF_A_FILE] for name in ids},
                )
                for begin in range(0, len(at_once), _BLOCKS_OF_A_FILE)
            ]
            for _ in in_order(self._write_file, files, self.threads):
                pass

    def _find_ids(self, blocks: Sequence[_Block]) -> dict[str, list[BlockIds]]:
        """Find the ids of the cells in some blocks' dictionaries, by column."""
        cells = [*in_order(self._cells_of, blocks, self.threads)]
        rows = sum(block.rows for block in blocks)
        pieces: list[tuple[str, list[pa.Array]]] = []
        # The columns with the most cells take longest, so they go first.
        for name in sorted(self.columns, key=lambda name: -len(self.columns[name].cells)):
            # Each piece hashes the known cells anew: it should have several times as many.
            parts = min(self.threads, 1 + rows // (4 * len(self.columns[name].cells) + 1))
            size = -(-len(blocks) // parts)
            pieces += [
                (name, [of_block[name] for of_block in cells[at : at + size]])
                for at in range(0, len(blocks), size)
            ]
        found: dict[str, list[BlockIds]] = {name: [] for name in self.columns}
        ids = in_order(self._ids_of_cells, pieces, self.threads)
        for (name, _), of_piece in zip(pieces, ids, strict=True):
            found[name] += of_piece
        return found

    def _cells_of(self, block: _Block) -> dict[str, pa.Array]:
        found = block.read([*self.columns], rows=1)
        return {name: found[name].dictionary for name in self.columns}

    def _ids_of_cells(self, piece: tuple[str, list[pa.Array]]) -> list[BlockIds]:
        column, cells = piece
        known = self.columns[column]
        # -1 where a cell is unknown: the last of the ids, which is put behind them.
        place = pc.fill_null(pc.index_in(pa.chunked_array(cells), known.cells), -1).to_numpy()
        ends = np.cumsum([len(of_block) for of_block in cells])[:-1]
        by_field = {
            field: np.split(np.append(ids, np.int32(0))[place], ends)
            for field, ids in known.ids.items()
        }
        return [{field: by_field[field][at] for field in by_field} for at in range(len(cells))]

    def _write_file(
        self, file: tuple[AnyPath, Sequence[_Block], Mapping[str, Sequence[BlockIds]]]
    ) -> None:
        path, blocks, ids = file
        types = {ROW: pa.int64(), LABEL: pa.int8(), **dict.fromkeys(self.schema.names, pa.int32())}
        schema = pa.schema([pa.field(name, types[name], nullable=False) for name in types])
        # Faster to write and to read than dictionaries of ids, and as small.
        deltas = dict.fromkeys([ROW, *self.schema.names], "DELTA_BINARY_PACKED")
        with parquet_writer(
            path, schema, compression="lz4", use_dictionary=False, column_encoding=deltas
        ) as writer:
            for at, block in enumerate(blocks):
                rows = self._encode(block, {name: ids[name][at] for name in ids}, schema)
                writer.write_batch(rows, row_group_size=max(1, rows.num_rows))

    def _encode(
        self, block: _Block, ids: Mapping[str, BlockIds], schema: pa.Schema
    ) -> pa.RecordBatch:
        rows = block.read([self.schema.label, *self.columns], block.rows)
        label = rows[self.schema.label]
        encoded = {
            ROW: np.arange(block.first, block.first + block.rows),
            LABEL: _take(label.dictionary.cast(pa.int8()), label),
        }
        for column, of_block in ids.items():
            for field, ids_of_cells in of_block.items():
                encoded[field] = _take(ids_of_cells, rows[column])
        zeros = np.zeros(block.rows, dtype=np.int32)
        batch = pa.record_batch([encoded.get(name, zeros) for name in schema.names], schema=schema)
        if self.chosen is None:
            return batch
        return batch.filter(pa.array(self.chosen[block.first : block.first + block.rows]))


def count_rows(rows: AnyPath) -> int:
    """How many rows `convert_csv` wrote."""
    return sum(block.rows for block in _blocks_of(rows))


def _blocks_of(rows: AnyPath) -> list[_Block]:
    """The blocks in the raw file's order: they were dealt out to the files in turn."""
    files = parts_of(rows)
    metadata = []
    for file in files:
        with parquet_file(file) as opened:
            metadata.append(opened.metadata)
    blocks: list[_Block] = []
    first = 0
    for number in range(sum(found.num_row_groups for found in metadata)):
        at, row_group = number % len(files), number // len(files)
        size = metadata[at].row_group(row_group).num_rows
        blocks.append(_Block(files[at], metadata[at], row_group, first, size))
        first += size
    return blocks


def _take(values: Ids | pa.Array, cells: pa.DictionaryArray) -> Ids:
    """Replace each cell by the value at its place in the dictionary."""
    taken: Ids = np.asarray(values)[cells.indices.to_numpy()]
    return taken
