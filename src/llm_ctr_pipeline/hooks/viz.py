"""What Kedro-Viz shows beside a dataset: its rows, columns and bytes."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.store_path import parquet_file

STATISTICS = Path(".viz/stats.json")  # Kedro-Viz's, in the project's folder


class VizHook:
    """Counts what a run's files hold. Kedro-Viz itself counts frames alone, of the last run."""

    def __init__(self) -> None:
        self._earlier: dict[str, Any] = {}

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Keep what is known of other runs' files, before Kedro-Viz writes its own."""
        with suppress(OSError, ValueError):
            text = (Path(run_params["project_path"]) / STATISTICS).read_text(encoding="utf-8")
            self._earlier = json.loads(text)

    @hook_impl(trylast=True)  # after Kedro-Viz
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Count, and tell Kedro-Viz."""
        from llm_ctr_pipeline.datasets.raw_rows import RawRowsDataset

        counted = {}
        for name in pipeline.datasets():
            dataset = catalog.get(name)
            path = Path(str(getattr(dataset, "_filepath", "")))
            if path.name and path.exists():
                is_table = path.suffix == ".parquet" or isinstance(dataset, RawRowsDataset)
                counted[name] = statistics_of(path, is_table)
        with drafted(Path(run_params["project_path"]) / STATISTICS) as draft:
            draft.write_text(json.dumps(self._earlier | counted), encoding="utf-8")


def statistics_of(path: Path, is_table: bool) -> dict[str, int]:
    """Count what a file, or a folder of files, of this machine holds.

    Args:
        path: The file or folder.
        is_table: Whether its Parquet files are the parts of a table.

    Returns:
        `file_size` in bytes; of a table `rows` and `columns` too.
    """
    files = sorted(file for file in (path, *path.rglob("*")) if file.is_file())
    sizes = {"file_size": sum(file.stat().st_size for file in files)}
    if not is_table:
        return sizes
    rows = columns = 0
    for table in (file for file in files if file.suffix == ".parquet"):
        with suppress(pa.ArrowException), parquet_file(table) as opened:
            rows += opened.metadata.num_rows
            columns = opened.metadata.num_columns
    return {"rows": rows, "columns": columns, **sizes}
