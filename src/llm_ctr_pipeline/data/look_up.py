"""Ids in the place of cells, found once for each cell in the dictionary of a block of rows.

A raw file's rows are kept with dictionaries (`convert`): a block of 50,000 rows holds a few
thousand cells that differ in most columns. Their ids are found, and put in the rows' place.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llm_ctr_pipeline.data.in_order import in_order
from llm_ctr_pipeline.data.schema import LABEL, ROW, LogSchema
from llm_ctr_pipeline.data.store import Place, parquet_file

# The ids of so many blocks' cells are found together: the cells with an id are hashed for that.
_BLOCKS_AT_ONCE = 128

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
class LookUp:
    """A raw file to encode.

    Attributes:
        file: Its rows, as `convert_csv` wrote them.
        chosen: Which rows, bool, one for each of the file; None for all.
        columns: By raw column, its ids.
        schema: The log's description.
        threads: How many to take.
    """

    file: Place
    chosen: npt.NDArray[np.bool_] | None
    columns: Mapping[str, CellIds]
    schema: LogSchema
    threads: int

    def encode(self) -> pa.RecordBatchReader:
        """Encode the file while it is read.

        Returns:
            `row` int64, `label` int8, one int32 column per field; in the file's order.
        """
        fields = [(name, pa.int32()) for name in self.schema.names]
        schema = pa.schema([(ROW, pa.int64()), (LABEL, pa.int8()), *fields])
        return pa.RecordBatchReader.from_batches(schema, self._batches(schema))

    def _batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with parquet_file(self.file) as file:
            metadata = file.metadata
        sizes = [metadata.row_group(block).num_rows for block in range(metadata.num_row_groups)]
        ends = np.cumsum(sizes)
        for first in range(0, len(sizes), _BLOCKS_AT_ONCE):
            blocks = range(len(sizes))[first : first + _BLOCKS_AT_ONCE]
            find = partial(self._ids_of_column, metadata, blocks)
            found = dict(zip(self.columns, in_order(find, self.columns, self.threads), strict=True))
            ids = [{name: found[name][at] for name in found} for at in range(len(blocks))]
            encode = partial(self._encode_block, metadata, ends, schema)
            yield from in_order(encode, zip(blocks, ids, strict=True), self.threads)

    def _ids_of_column(
        self, metadata: pq.FileMetaData, blocks: range, column: str
    ) -> list[BlockIds]:
        """Find the ids of the cells in some blocks' dictionaries of one column."""
        cells = [
            self._read(metadata, block, [column])[column].combine_chunks().dictionary
            for block in blocks
        ]
        known = self.columns[column]
        # -1 where a cell is unknown: the last of the ids, which is put behind them.
        place = pc.fill_null(pc.index_in(pa.chunked_array(cells), known.cells), -1).to_numpy()
        ends = np.cumsum([len(of_block) for of_block in cells])[:-1]
        by_field = {
            field: np.split(np.append(ids, np.int32(0))[place], ends)
            for field, ids in known.ids.items()
        }
        return [{field: by_field[field][at] for field in by_field} for at in range(len(blocks))]

    def _encode_block(
        self,
        metadata: pq.FileMetaData,
        ends: npt.NDArray[np.int64],
        schema: pa.Schema,
        block_and_ids: tuple[int, Mapping[str, BlockIds]],
    ) -> pa.RecordBatch:
        block, ids = block_and_ids
        rows = self._read(metadata, block, [self.schema.label, *self.columns])
        first = int(ends[block]) - rows.num_rows
        position = np.arange(first, first + rows.num_rows)
        if self.chosen is not None:
            chosen = self.chosen[first : first + rows.num_rows]
            rows, position = rows.filter(pa.array(chosen)), position[chosen]
        label = rows[self.schema.label].combine_chunks()
        encoded = {ROW: position, LABEL: _take(label.dictionary.cast(pa.int8()), label)}
        for column, of_block in ids.items():
            cells = rows[column].combine_chunks()
            for field, ids_of_cells in of_block.items():
                encoded[field] = _take(ids_of_cells, cells)
        zeros = np.zeros(len(position), dtype=np.int32)
        return pa.record_batch([encoded.get(name, zeros) for name in schema.names], schema=schema)

    def _read(self, metadata: pq.FileMetaData, block: int, columns: list[str]) -> pa.Table:
        with parquet_file(self.file, metadata=metadata, read_dictionary=columns) as file:
            return file.read_row_group(block, columns=columns, use_threads=False)


def _take(values: Ids | pa.Array, cells: pa.DictionaryArray) -> Ids:
    """Replace each cell by the value at its place in the dictionary."""
    taken: Ids = np.asarray(values)[cells.indices.to_numpy()]
    return taken
