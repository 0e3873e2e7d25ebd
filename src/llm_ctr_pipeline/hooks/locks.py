"""Locks on the folders that a run reads and writes, held from its start to its end."""

import atexit
from collections.abc import Iterator
from pathlib import Path

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from llm_ctr_pipeline.data.errors import StorageError
from llm_ctr_pipeline.data.storage.disk import told_if_short
from llm_ctr_pipeline.data.storage.locks import FolderLocks, InUseError
from llm_ctr_pipeline.data.storage.store_path import parse_path
from llm_ctr_pipeline.hooks.preflight import PreflightError
from llm_ctr_pipeline.training.settings import PATHS


class LocksHook:
    """Refuses a run that would write what another reads or writes, or read what it writes."""

    def __init__(self) -> None:
        self._locks = FolderLocks()
        # By the folder, the datasets in it that this run has not saved yet.
        self._unsaved: dict[Path, set[str]] = {}
        atexit.register(self._locks.release)

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Lock the folders of all datasets of the run."""
        self._locks.release()  # of a run in this process that was interrupted
        self._unsaved = {}
        for name, folder in _written(pipeline, catalog):
            self._unsaved.setdefault(folder, set()).add(name)
        try:
            # All runs take them in one order, so that of two that begin at once one gets all.
            for folder in sorted({*self._unsaved, *_read(pipeline, catalog)}):
                with told_if_short(folder):
                    self._locks.take(folder, write=folder in self._unsaved)
        except (InUseError, StorageError) as error:
            self._locks.release()
            # Not from the error, whose commands the command line would complete: one is another's.
            raise PreflightError(str(error)) from None

    @hook_impl
    def after_dataset_saved(self, dataset_name: str) -> None:
        """Let others read a folder once all that this run writes there is written."""
        for folder, names in self._unsaved.items():
            if dataset_name in names:
                names.remove(dataset_name)
                if not names:
                    self._locks.share(folder)

    @hook_impl(trylast=True)  # after what other hooks read of it
    def after_pipeline_run(self) -> None:
        """Release the folders."""
        self._locks.release()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Release the folders."""
        self._locks.release()


def _written(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[tuple[str, Path]]:
    """The datasets that a run writes, each with its folder."""
    for name in sorted(pipeline.all_outputs()):
        folder = _folder(name, catalog)
        if folder is not None and not _is_given(name, catalog):
            yield name, folder


def _read(pipeline: Pipeline, catalog: DataCatalog) -> Iterator[Path]:
    """The folders that a run reads."""
    for name in sorted(pipeline.datasets()):
        folder = _folder(name, catalog)
        if folder is not None:
            yield folder
    if "params:compare" in pipeline.inputs():  # it reads results by folder
        settings = catalog.load("params:compare")
        for place in ("model_output_folder", "reporting_folder"):
            for path in () if settings.run_ids else settings.path_names or PATHS:
                if (folder := catalog.load(place) / path).exists():
                    yield folder


def _is_given(name: str, catalog: DataCatalog) -> bool:
    """Whether an output is a raw folder that the user gave, to which nothing is written."""
    if not _is_raw_folder(name):
        return False
    return bool(catalog.load(f"params:{name.removesuffix('_folder')}").source == "folder")


def _is_raw_folder(name: str) -> bool:
    return name.rpartition(".")[2] == "raw_folder"


def _folder(name: str, catalog: DataCatalog) -> Path | None:
    """The folder that a dataset lies in, or is; None of one on a store or in memory.

    Kedro makes paths on this machine absolute.
    """
    if _is_raw_folder(name):
        folder = catalog.load(name)
    else:
        folder = parse_path(str(getattr(catalog.get(name), "_filepath", ""))).parent
    return folder if isinstance(folder, Path) and folder.is_absolute() else None
