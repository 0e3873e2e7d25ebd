"""Preprocessing with the project's own catalog, and small logs to preprocess."""

import csv
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.data.synthetic.generated_log import (
    GeneratedLogSettings,
    provide_generated_log,
)
from llm_ctr_pipeline.params import PreprocessParams, RawParams
from llm_ctr_pipeline.pipelines.preprocess import create_pipeline
from llm_ctr_pipeline.resolvers import RESOLVERS
from tests.records import content_of

PROJECT = Path(__file__).parents[2]
GENERATED = GeneratedLogSettings(
    train_rows=1000, valid_rows=200, test_rows=300, seed=1, click_rate=0.17
)


def run_preprocess(
    project: Path,
    raw_folder: Path | None = None,
    generated_log: GeneratedLogSettings | None = None,
    min_count: int = 2,
    threads: int = 2,
    every_nth_row: int = 1,
) -> Path:
    """Run the pipeline with the project's own catalog, its paths moved to another folder."""
    loader = OmegaConfigLoader(
        str(PROJECT / "conf"),
        base_env="base",
        default_run_env="base",
        config_patterns={
            "catalog": ["catalog_preprocess.yml"],
            "parameters": ["parameters_preprocess.yml"],
        },
        runtime_params={"raw_dir": str(raw_folder)} if raw_folder else None,
        custom_resolvers=RESOLVERS,
    )
    entries: dict[str, Any] = loader["catalog"]
    for entry in entries.values():
        for key in {"filepath", "path"} & set(entry):
            entry[key] = str(project / entry[key])
        if "connection" in entry:
            entry["connection"]["threads"] = threads
            del entry["connection"]["temp_directory"]  # it is in the folder of the project
    catalog = DataCatalog.from_config(entries)
    catalog["params:generated_log"] = MemoryDataset(generated_log)
    preprocess = PreprocessParams(min_count=min_count, every_nth_row=every_nth_row)
    catalog["params:raw"] = MemoryDataset(RawParams(source="folder" if raw_folder else "generated"))
    catalog["params:preprocess"] = MemoryDataset(preprocess)
    catalog["params:log"] = MemoryDataset(LogSchema(**loader["parameters"]["log"]))
    SequentialRunner().run(create_pipeline(), catalog)
    return project / "data"


def read_json(path: Path) -> dict[str, Any]:
    return content_of(path)


def read_split(data: Path, split: str) -> pa.Table:
    return pq.read_table(data / "05_model_input" / "x4" / f"{split}.parquet")


def raw_rows(folder: Path, split: str) -> list[dict[str, str]]:
    with (folder / f"{split}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def make_raw(tmp_path: Path) -> Path:
    """Write a small raw log that came from elsewhere."""
    folder = tmp_path / "my_log"
    settings = GeneratedLogSettings(
        train_rows=60, valid_rows=30, test_rows=30, seed=1, click_rate=0.17
    )
    provide_generated_log(folder, settings)
    return folder
