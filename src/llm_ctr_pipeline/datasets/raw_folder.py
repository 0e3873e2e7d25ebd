"""A folder of raw files."""

from llm_ctr_pipeline.data.synthetic.raw_source import RawSource
from llm_ctr_pipeline.datasets.folder import FolderDataset


class RawFolderDataset(FolderDataset):
    """A raw log's folder, which only a log that is made here is ever written to.

    Which files it holds and what is in them stands in the parameters (`log`).
    """

    def save(self, data: RawSource) -> None:  # type: ignore[override]
        """Write the log, where it is one that is made here and not there yet."""
        data(self._path)
