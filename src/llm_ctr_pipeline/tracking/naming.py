"""What a run is called in MLflow, of which kind it is, and what is written about it."""

import json
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from llm_ctr_pipeline.reporting.pages.facts import ChangedSetting
from llm_ctr_pipeline.tracking.effective import HOUSEKEEPING
from llm_ctr_pipeline.training.settings import PATHS

TRAINING = "training"
# What a name says already.
_TOLD = {"path", "dataset", "split"}
# Kinds of runs: what their nodes are told or make. The first that fits names a run.
_KINDS = {
    TRAINING: (".training_results",),
    "evaluation": ("_predictions",),
    "comparison": ("comparison",),
    "scoring": ("scored_rows",),
    "export": ("exported_model",),
    "registration": ("params:register",),
    "download": ("downloaded_folders",),
    "data": ("params:preprocess", "raw_folder", "raw_log", "feature_map", "summary", "_encoded"),
}
SEPARATOR = " · "
MOST_NAMED = 3  # settings in a name
LONGEST_VALUE = 24  # characters of one
SHORT_FROM = 0.01  # smaller numbers are shorter with an exponent


def kind_of(pipeline: Pipeline) -> str:
    """What a run does, in a word; `figures` where it only draws again what is there."""
    inputs = (name for name in pipeline.inputs() if name.startswith("params:"))
    names = (*pipeline.all_outputs(), *inputs)
    for kind, signs in _KINDS.items():
        if any(name.endswith(signs) for name in names):
            return kind
    return "figures"


def paths_of(pipeline: Pipeline, catalog: DataCatalog) -> list[str]:
    """The training paths that a run is about."""
    paths = {node.namespace for node in pipeline.nodes if node.namespace in PATHS}
    for name in ("evaluation", "predict", "export", "register"):
        if f"params:{name}" in pipeline.inputs():
            paths.add(catalog.load(f"params:{name}").path)
    return sorted(str(path) for path in paths)


def name_of(
    kind: str,
    pipeline: Pipeline,
    catalog: DataCatalog,
    env: str | None,
    changed: Iterable[ChangedSetting],
) -> str:
    """Name a run by its kind, path, data, what it sets otherwise and environment.

    Args:
        kind: As `kind_of` says; a training's name begins with its path.
        pipeline: The run's.
        catalog: The run's.
        env: The environment that the command names, if it does.
        changed: Settings that are not as in the environment's files.
    """
    parts = [] if kind == TRAINING else [kind]
    parts += [",".join(paths_of(pipeline, catalog))]
    data = _data_of(kind, pipeline, catalog)
    parts += [data]
    named = [*_named(changed)]
    parts += named[:MOST_NAMED]
    if len(named) > MOST_NAMED:
        parts += [f"+{len(named) - MOST_NAMED}"]
    if env not in {None, "local", data.partition(" ")[0]}:
        parts += [f"env {env}"]
    return SEPARATOR.join(filter(None, parts))


def note_of(name: str, kind: str, command: str, changed: Sequence[ChangedSetting]) -> str:
    """Describe a run in Markdown: what it is, its whole command, and what it sets otherwise."""
    lines = [f"**{name}** ({kind})", "", "```bash", command, "```"]
    if changed:
        lines += ["", "| setting | here | in conf/base |", "|---|---|---|"]
    for one in changed:
        cells = (one.name, one.used, one.default or "")
        lines += ["| " + " | ".join(_cell(cell) for cell in cells) + " |"]
    return "\n".join(lines)


def _data_of(kind: str, pipeline: Pipeline, catalog: DataCatalog) -> str:
    """The dataset, and of a test or a comparison the split."""
    inputs = pipeline.inputs()
    told = [name for name in inputs if name.endswith(("evaluation", ":compare"))]
    if told:
        settings = catalog.load(min(told))
        split = "" if kind in {TRAINING, "figures"} else f" {settings.split}"
        return f"{settings.dataset}{split}"
    return str(catalog.load("params:log").dataset) if "params:log" in inputs else ""


def _named(changed: Iterable[ChangedSetting]) -> Iterator[str]:
    """Settings by their last names, with the stage's before them where there are several."""
    for one in changed:
        *_, above, name = ("", *one.name.split("."))
        if name in _TOLD | HOUSEKEEPING:
            continue
        stage = above if ".stages." in one.name and above != "end_to_end" else ""
        yield f"{stage} {name} {_value(one.used)}".strip()


def _value(used: str) -> str:
    value = json.loads(used)
    if isinstance(value, float) and 0 < abs(value) < SHORT_FROM:
        return np.format_float_scientific(value, trim="-", exp_digits=1)
    text = value if isinstance(value, str) else used
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def _cell(text: str) -> str:
    return "`" + text.replace("|", "\\|").replace("`", "'") + "`" if text else ""
