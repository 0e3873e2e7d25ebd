"""An encoded split of a thousand rows, and its batches."""

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from llm_ctr_pipeline.data.input.batches import Batch, TrainingRows
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.input.streamed_split import StreamedSplit
from llm_ctr_pipeline.data.storage.store_path import StorePath

CPU = torch.device("cpu")
FIELDS = ("a", "b")
ROWS = 1000
GROUP = 64


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
