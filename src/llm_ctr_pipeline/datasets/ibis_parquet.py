"""Parquet written and read through Ibis."""

import builtins

import ibis
import ibis.expr.types as ir
from kedro_datasets._typing import TablePreview

from llm_ctr_pipeline.data.storage.engine import read_parquet
from llm_ctr_pipeline.datasets.engine import TableDataset
from llm_ctr_pipeline.datasets.path import where_there


class IbisParquetDataset(TableDataset):
    """A table that is read by the engine."""

    def load(self) -> ir.Table:
        """Name the file's rows as a table; nothing is read until it is executed.

        Where somebody looks at it, in IPython or a notebook, it shows its first rows.
        """
        if hasattr(builtins, "__IPYTHON__"):
            ibis.options.interactive = True
        with self._reading_files():
            return read_parquet(self.connection, self._filepath)

    @where_there
    def preview(self, nrows: int = 5) -> TablePreview:
        """What Kedro-Viz shows."""
        return TablePreview(self.load().limit(nrows).to_pandas().to_dict(orient="split"))
