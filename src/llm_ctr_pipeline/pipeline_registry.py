"""The project's pipelines, found by their folders."""

import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline
from kedro.pipeline.preview_contract import TextPreview
from kedro.utils import KedroExperimentalWarning


def register_pipelines() -> dict[str, Pipeline]:
    """Map each pipeline's name to it; `__default__` is preprocess and train."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KedroExperimentalWarning)  # of previews
        found: dict[str, Pipeline] = find_pipelines(raise_errors=True)
        pipelines = {name: _described(pipeline) for name, pipeline in found.items()}
    default = [pipelines[name] for name in ("preprocess", "train") if name in pipelines]
    pipelines["__default__"] = sum(default, Pipeline([]))
    return pipelines


def _described(pipeline: Pipeline) -> Pipeline:
    """The same pipeline, of whose nodes Kedro-Viz says what they do."""
    nodes = []
    for node in pipeline.nodes:
        described = partial(_first_line, node.func)
        nodes.append(node if node._preview_fn else node._copy(preview_fn=described))
    return Pipeline(nodes)


def _first_line(function: Callable[..., Any]) -> TextPreview:
    return TextPreview((inspect.getdoc(function) or "").partition("\n")[0])
