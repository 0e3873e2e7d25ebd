"""An encoded split in each of its forms."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.storage.store_path import StorePath
from tests.data.input.streams import GROUP, ROWS, put_in_parts


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
