"""This project's preprocessing of a raw folder, without Kedro around it.

python our_preprocess.py RAW_FOLDER FOLDER MIN_COUNT MEMORY_LIMIT

Takes the steps of the preprocess pipeline in the same order: checks every row, and writes
FOLDER/{split}_normalised.parquet, FOLDER/vocabulary.parquet and FOLDER/{split}.parquet.
"""

import sys
from pathlib import Path

import ibis
import yaml  # type: ignore[import-untyped]

from llm_ctr_pipeline.data.encode import encode
from llm_ctr_pipeline.data.normalise import normalise
from llm_ctr_pipeline.data.raw_log import RawFolder, check_raw_log, raw_splits
from llm_ctr_pipeline.data.vocabulary import fit_vocabulary
from llm_ctr_pipeline.params import LogParams

PARAMETERS = Path(__file__).parents[1] / "conf" / "base" / "parameters_preprocess.yml"


def main(raw: Path, folder: Path, min_count: int, memory_limit: str) -> None:
    """Check, normalise, fit the vocabulary and encode."""
    log = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))["log"]
    schema = LogParams(**{**log, "dataset": "x4"}).to_schema()
    connection = ibis.duckdb.connect(
        memory_limit=memory_limit, temp_directory=str(folder / "spilled")
    )
    raw_folder = RawFolder(raw, connection)
    found = check_raw_log(raw_folder, schema, every_nth_row=1)
    normalised = {}
    for split, rows in raw_splits(raw_folder, schema, 1, found["cuts"]).items():
        path = folder / f"{split}_normalised.parquet"
        connection.to_parquet(normalise(rows, schema), path)
        normalised[split] = connection.read_parquet(path)
    path = folder / "vocabulary.parquet"
    connection.to_parquet(fit_vocabulary(normalised["train"], schema.names, min_count), path)
    vocabulary = connection.read_parquet(path)
    for split, rows in normalised.items():
        encoded = encode(rows, vocabulary, schema.names)
        connection.to_parquet(encoded, folder / f"{split}.parquet")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
