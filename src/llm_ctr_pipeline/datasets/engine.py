"""What the datasets of preprocessing share: one connection to one engine."""

from ibis.backends import BaseBackend
from kedro_datasets.ibis import FileDataset

from llm_ctr_pipeline.data.engine import connect


class EngineDataset(FileDataset):  # type: ignore[misc]
    """A dataset that Ibis reads; all with the same `connection` settings share one."""

    def _connect(self) -> BaseBackend:
        return connect(self._connection_config)
