"""What a test or a comparison leaves beside its report, put in place as a whole."""

import hashlib
import io
import itertools
from typing import Any, NoReturn

import pandas as pd
from kedro.io import DatasetError
from kedro_datasets._typing import TablePreview
from kedro_mlflow.io.metrics import MlflowMetricsHistoryDataset

from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.store_path import parquet_file
from llm_ctr_pipeline.datasets.path import PathDataset, where_there
from llm_ctr_pipeline.serving.scored_rows import RowsToScore, ScoredRows

# Characters of a text that a notebook shows.
LONGEST_SHOWN = 5000


class PredictionsDataset(PathDataset):
    """A test's predictions in Parquet."""

    def load(self) -> pd.DataFrame:
        """Read them.

        Raises:
            ReplacedError: Another run put its own in the place of those that this run saved.
        """
        content = self._filepath.open("rb").read()
        self._check_same(hashlib.sha256(content).hexdigest())
        return pd.read_parquet(io.BytesIO(content))

    def save(self, data: pd.DataFrame) -> None:
        """Write them."""
        content = data.to_parquet()
        with drafted(self._filepath) as draft, draft.open("wb") as file:
            file.write(content)
        self._wrote(hashlib.sha256(content).hexdigest())

    @where_there
    def preview(self, nrows: int = 5) -> TablePreview:
        """What Kedro-Viz shows."""
        first: dict[str, Any] = self.load().head(nrows).to_dict(orient="split")
        return TablePreview(first)


class MetricsDataset(MlflowMetricsHistoryDataset):  # type: ignore[misc]
    """A report's numbers, logged to the MLflow run."""

    def _load(self) -> NoReturn:  # Kedro takes it for `load`, as the class above has one
        """Refuse: who looks for the numbers finds them in the report."""
        raise DatasetError(
            "metrics are logged to MLflow and not read back: the report that was saved with them, "
            "PATH.evaluation_SPLIT, evaluation_report or comparison, holds the same numbers"
        )


class ScoredRowsDataset(PathDataset):
    """Raw rows that are scored while they are saved."""

    def load(self) -> ScoredRows:
        """Name the file; nothing is read yet."""
        return ScoredRows(self._filepath)

    def save(self, data: RowsToScore) -> None:
        """Score and write them."""
        with drafted(self._filepath) as draft:
            data.write(draft)

    @where_there
    def preview(self, nrows: int = 5) -> TablePreview:
        """What Kedro-Viz shows."""
        with parquet_file(self._filepath) as file:
            rows = next(file.iter_batches(nrows)).to_pandas()
        return TablePreview(rows.to_dict(orient="split"))


class Text(str):
    """A text that is not printed where it is long, as a page with all its figures is."""

    __slots__ = ()

    def __repr__(self) -> str:
        shown = super().__repr__()
        return shown if len(shown) <= LONGEST_SHOWN else f"<a text of {len(self):,} characters>"


class TextDataset(PathDataset):
    """A text, such as a page."""

    def load(self) -> str:
        """Read it."""
        return Text(self._filepath.read_text(encoding="utf-8"))

    def save(self, data: str) -> None:
        """Write it."""
        with drafted(self._filepath) as draft:
            draft.write_text(data, encoding="utf-8")


class MarkdownDataset(TextDataset):
    """A text in Markdown, with a table in it."""

    @where_there
    def preview(self) -> TablePreview:
        """What Kedro-Viz shows: the first table."""
        lines = self.load().splitlines()
        found = itertools.dropwhile(lambda line: not line.startswith("|"), lines)
        table = itertools.takewhile(lambda line: line.startswith("|"), found)
        columns, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table)
        return TablePreview({"index": [*range(len(rows))], "columns": columns, "data": rows})
