import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from uuid import uuid4

import ibis
import pytest
import yaml
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.data.raw.checks import RawFile, read_raw_file
from llm_ctr_pipeline.data.raw.csv_text import open_csv
from llm_ctr_pipeline.data.storage.engine import read_parquet
from llm_ctr_pipeline.data.synthetic.generated_log import AVAZU_COLUMNS

WriteRaw = Callable[..., Path]

_SHIPPED = Path(__file__).parents[2] / "conf" / "base" / "parameters_preprocess.yml"
_DEFAULTS = {**dict.fromkeys(AVAZU_COLUMNS, "0"), "hour": "14102100"}


@pytest.fixture(scope="session")
def x4() -> LogSchema:
    """The shipped description of Avazu x4."""
    described = yaml.safe_load(_SHIPPED.read_text())["log"]
    return LogSchema(**(described | {"dataset": "x4"}))


@pytest.fixture
def connection() -> Backend:
    return ibis.duckdb.connect()


@pytest.fixture
def open_x4(connection: Backend, x4: LogSchema) -> Callable[[Path], RawFile]:
    """Read a raw file of the x4 log."""

    def read(path: Path) -> RawFile:
        csv = open_csv(path, x4)
        target = path.with_name(f"{path.stem}-{uuid4()}.parquet")
        fingerprint = read_raw_file(connection, csv, target)
        return RawFile(path, x4, read_parquet(connection, target), fingerprint)

    return read


@pytest.fixture
def write_raw(tmp_path: Path) -> WriteRaw:
    """Write a raw file of rows that say only what matters: the rest is "0"."""

    def write(
        rows: Sequence[Mapping[str, str]],
        name: str = "train.csv",
        columns: Sequence[str] = AVAZU_COLUMNS,
        line_end: str = "\n",
    ) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator=line_end)
            writer.writerow(columns)
            writer.writerows([{**_DEFAULTS, **row}[column] for column in columns] for row in rows)
        return path

    return write
