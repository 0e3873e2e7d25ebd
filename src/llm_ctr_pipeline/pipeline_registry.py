"""The project's pipelines, found by their folders."""

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline


def register_pipelines() -> dict[str, Pipeline]:
    """Map each pipeline's name to it; `__default__` is preprocess and train."""
    pipelines: dict[str, Pipeline] = find_pipelines(raise_errors=True)
    default = [pipelines[name] for name in ("preprocess", "train") if name in pipelines]
    pipelines["__default__"] = sum(default, Pipeline([]))
    return pipelines
