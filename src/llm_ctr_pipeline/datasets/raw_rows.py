"""A raw log's rows in Parquet."""

from llm_ctr_pipeline.data.raw.manifest import MANIFEST, RawManifest
from llm_ctr_pipeline.data.raw.raw_log import (
    RawRows,
    check_raw_rows,
    open_raw_rows,
    write_raw_rows,
)
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.datasets.engine import EngineDataset


class RawRowsDataset(EngineDataset):
    """A log's rows as they were read: Parquet files for each raw file, and a manifest."""

    def load(self) -> RawRows:
        """Name the rows, after a look at all bytes of them where an earlier run wrote them."""
        of_earlier_run = self._known is None
        with self._reading_files():
            rows = open_raw_rows(self.connection, self._filepath)
            if of_earlier_run:
                check_raw_rows(rows)
            return rows

    def _exists(self) -> bool:
        return super()._exists() and (self._filepath / MANIFEST).is_file()

    def save(self, data: RawManifest) -> None:
        """Read the raw files, and put all their rows in place at once.

        Raises:
            RawLogError: If a file cannot be used; nothing is written then.
        """
        with drafted(self._filepath) as draft:
            write_raw_rows(self.connection, data, draft)
        self._wrote_files()
