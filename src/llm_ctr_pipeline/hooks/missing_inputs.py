"""What a run reads and does not find, and which command makes it."""

from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from llm_ctr_pipeline.datasets.raw_folder import RawFolderDataset
from llm_ctr_pipeline.params import DownloadParams
from llm_ctr_pipeline.resolvers import project_root


def missing_input(name: str, catalog: DataCatalog) -> str:
    """Say which dataset is missing, where it should lie and which command makes it."""
    place = getattr(catalog.get(name), "_filepath", None)
    pipelines.set_requested(None)  # look among all, not just those of this run
    makers = [
        maker
        for maker in pipelines
        if maker != "__default__" and _makes(pipelines[maker], name, place, catalog)
    ]
    shortest = min(makers, key=lambda maker: len(pipelines[maker].nodes), default=None)
    cure = (
        f"run `kedro run --pipeline={shortest}` first"
        if shortest
        else "no pipeline makes it, so look at the parameters that name it"
    )
    where = place or "its place in the catalog"
    dataset = f"{place.parent.name} " if place and "." not in name else ""
    words = name.replace("_", " ").replace(".", " ")
    return f"{dataset}{words} not found at {where}: {cure}"


def _makes(pipeline: Pipeline, name: str, place: Any, catalog: DataCatalog) -> bool:
    """Whether a pipeline makes a dataset: under its name, or under another at the same place."""
    outputs = pipeline.all_outputs()
    places = {getattr(catalog.get(output), "_filepath", None) for output in outputs}
    return name in outputs or (place is not None and place in places)


def unfetched_raw_log(pipeline: Pipeline, catalog: DataCatalog) -> str | None:
    """Say how to fetch a published raw log that a run reads, where it is not there yet."""
    names = sorted(name for name in pipeline.datasets() if name.rpartition(".")[2] == "raw_folder")
    if not names:
        return None
    archives = DownloadParams.model_validate(catalog.load("params:download")).archives
    below = Path(project_root(), "data", "01_raw")
    fetched = {below / archive.folder for archive in archives.values()}
    for name in names:
        raw = catalog.get(name)
        assert isinstance(raw, RawFolderDataset)  # noqa: S101 - by the catalog
        folder = raw.load()
        if folder in fetched and not folder.exists():
            return f"raw folder {folder} not found: fetch it by `make data`, or set raw_dir"
    return None
