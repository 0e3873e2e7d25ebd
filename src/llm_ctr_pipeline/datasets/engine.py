"""What the datasets of preprocessing share: one connection to one engine, and any store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb
from ibis.backends import BaseBackend
from kedro_datasets.ibis import FileDataset

from llm_ctr_pipeline.data.errors import StaleDataError, first_line
from llm_ctr_pipeline.data.features.encode import Encoded, write_encoded
from llm_ctr_pipeline.data.storage.atomic import drafted, sweep
from llm_ctr_pipeline.data.storage.engine import connect
from llm_ctr_pipeline.data.storage.store_path import AnyPath, changed_at, is_whole, parse_path
from llm_ctr_pipeline.datasets.path import Unreplaced


class EngineDataset(Unreplaced, FileDataset):  # type: ignore[misc]
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

    def _wrote_files(self) -> None:
        self._wrote(str(changed_at(self._filepath)))

    @contextmanager
    def _reading_files(self) -> Iterator[None]:
        """Refuse files that another run put there, and say which are damaged.

        Raises:
            ReplacedError: They are not those that this run wrote or read before.
            StaleDataError: They cannot be read.
        """
        self._check_same(str(changed_at(self._filepath)))
        try:
            yield
        except StaleDataError:
            raise
        except (duckdb.Error, ValueError) as error:
            raise StaleDataError(f"{self._filepath} is damaged ({first_line(error)})") from error


class TableDataset(EngineDataset):
    """A table in Parquet that readers never see half-written."""

    def save(self, data: Encoded) -> None:
        """Write the rows and put the result in its place when it is whole."""
        with drafted(self._filepath) as draft:
            write_encoded(self.connection, data, draft)
        self._wrote_files()
