"""What the datasets of preprocessing share: one connection to one engine, and any store."""

from typing import Any

from ibis.backends import BaseBackend
from kedro_datasets.ibis import FileDataset

from llm_ctr_pipeline.data.storage.atomic import sweep
from llm_ctr_pipeline.data.storage.engine import connect
from llm_ctr_pipeline.data.storage.store_path import AnyPath, is_whole, parse_path


class EngineDataset(FileDataset):  # type: ignore[misc]
    """A dataset that Ibis reads; all with the same `connection` settings share one.

    Args:
        filepath: See `PathDataset`.
        connection: Ibis backend and its options; DuckDB in memory by default.
        metadata: See `PathDataset`.
    """

    def __init__(
        self,
        filepath: str,
        *,
        connection: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath, connection=connection, metadata=metadata)
        # Kedro's own way with addresses drops what distinguishes two stores of a kind.
        self._fs_prefix = ""
        self._filepath: AnyPath = parse_path(filepath)

    def _connect(self) -> BaseBackend:
        return connect(self._connection_config)

    def _exists(self) -> bool:
        sweep(self._filepath)
        return is_whole(self._filepath)
