"""What is read and written by its path, on this machine or on a store."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from kedro.io import AbstractDataset

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.storage.atomic import sweep
from llm_ctr_pipeline.data.storage.store_path import AnyPath, is_whole, parse_path

P = ParamSpec("P")
Dataset = TypeVar("Dataset", bound=AbstractDataset[Any, Any])
Preview = TypeVar("Preview")


def where_there(
    preview: Callable[Concatenate[Dataset, P], Preview],
) -> Callable[Concatenate[Dataset, P], Preview | None]:
    """A dataset's preview, which is none where there is nothing yet: Kedro-Viz would warn of it."""

    @wraps(preview)
    def shown(dataset: Dataset, /, *args: P.args, **kwargs: P.kwargs) -> Preview | None:
        return preview(dataset, *args, **kwargs) if dataset.exists() else None

    return shown


class ReplacedError(RefusedError):
    """Something else lies where a run wrote or read something before."""


class Unreplaced:
    """A dataset that gives a run what that run wrote or read first, and nothing else.

    A catalog lives as long as its run, and nodes hand their results to each other through files,
    which another process may replace meanwhile: what is tested must be what was trained.
    """

    _filepath: AnyPath
    _known: str | None = None

    def _wrote(self, digest: str) -> None:
        """Remember what lies there from now on."""
        self._known = digest

    def _check_same(self, digest: str) -> None:
        """Remember what lies there if nothing is known of it, and refuse all else.

        Raises:
            ReplacedError: It is something else than before.
        """
        if self._known not in {None, digest}:
            raise ReplacedError(
                f"{self._filepath} was replaced by another run while this one worked: run again "
                "what this run was to do, when the other has ended"
            )
        self._known = digest


class PathDataset(Unreplaced, AbstractDataset[Any, Any]):
    """A file or a folder that exists once it is whole.

    Args:
        filepath: Where it is or will be: a path, or an address such as `hdfs://HOST/PATH`.
        metadata: For other tools; Kedro ignores it.
    """

    def __init__(self, filepath: str, *, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = parse_path(filepath)
        self.metadata = metadata

    def _exists(self) -> bool:
        sweep(self._filepath)
        return is_whole(self._filepath)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
