"""This project's preprocessing of a raw folder, without Kedro around it.

python our_preprocess.py RAW_FOLDER FOLDER MIN_COUNT MEMORY_LIMIT

Takes the steps of the preprocess pipeline in the same order: checks every row, and writes
FOLDER/raw_rows, FOLDER/vocabulary.parquet and FOLDER/{split}.parquet.
"""

import sys
from pathlib import Path

import ibis
import yaml  # type: ignore[import-untyped]

from llm_ctr_pipeline.data.features.build_feature_map import build_feature_map
from llm_ctr_pipeline.data.features.encode import encode_splits, write_encoded
from llm_ctr_pipeline.data.features.feature_map import FitSource
from llm_ctr_pipeline.data.features.vocabulary import fit_vocabulary
from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.data.raw.raw_log import (
    CheckedLog,
    check_raw_log,
    describe_files,
    open_raw_rows,
    write_raw_rows,
)
from llm_ctr_pipeline.data.storage.engine import write_parquet

PARAMETERS = Path(__file__).parents[1] / "conf" / "base" / "parameters_preprocess.yml"


def main(raw: Path, folder: Path, min_count: int, memory_limit: str) -> None:
    """Read and check, fit the vocabulary and encode."""
    log = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))["log"]
    schema = LogSchema(**{**log, "dataset": "x4"})
    connection = ibis.duckdb.connect(
        memory_limit=memory_limit, temp_directory=str(folder / "spilled")
    )
    write_raw_rows(connection, describe_files(raw, schema), folder / "raw_rows")
    rows = open_raw_rows(connection, folder / "raw_rows")
    checked = CheckedLog(rows, check_raw_log(rows, every_nth_row=1))
    path = folder / "vocabulary.parquet"
    write_parquet(
        connection, fit_vocabulary(checked.split("train").marked, schema, min_count), path
    )
    vocabulary = connection.read_parquet(path)
    fit_on = FitSource(source=raw.name, **dict(checked.raw_log.splits["train"]))
    build_feature_map(vocabulary, "x4", schema.names, min_count, fit_on)
    for name, encoded in encode_splits(checked, vocabulary).items():
        write_encoded(connection, encoded, folder / f"{name}.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
