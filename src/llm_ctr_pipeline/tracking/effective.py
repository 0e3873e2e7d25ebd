"""What a training in fact uses of its settings, under one name whatever its path."""

from collections.abc import Iterator, Mapping
from typing import Any

from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from llm_ctr_pipeline.models.settings import EmbeddingSettings, EncoderSettings
from llm_ctr_pipeline.training.settings import Execution, Stage, TrainingSettings

# No setting of a group: the capital sorts it before these, also where MLflow compares two runs.
PATH = "Path"
# They say when states are kept and where rows are held: two models do not differ by them.
HOUSEKEEPING = {
    *("resume", "keep_state_every", "keep_state_every_steps", "keep_state_every_minutes"),
    *("rows_in", "stream_buffer_rows", "cpu_threads", "eval_batch_size"),
}
# What `auto` came to is known when a stage trained; see `history.Ran`.
NOT_YET_KNOWN = {*Execution.model_fields}
# Settings that some schedules alone look at.
SCHEDULED = {
    "lr_factor": ("plateau",),
    "lr_warmup_steps": ("warmup_cosine", "warmup_linear"),
    "lr_min": ("plateau", "warmup_cosine", "warmup_linear"),
}
# Components that learn at `encoder_lr`; see `optimizer.build_optimizer`.
ENCODER = ("embedding", "gen", "terms")


def trains(node: Node) -> bool:
    """Whether a node trains: no other is told where states are kept."""
    return any(_last(name) == "state_folder" for name in node.inputs)


def settings_of_trainings(pipeline: Pipeline, catalog: DataCatalog) -> dict[str, Any]:
    """The settings that a run's training uses; of several each has its path before them."""
    trainings = [
        effective_settings(
            {_last(name): catalog.load(name) for name in node.inputs if name.startswith("params:")}
        )
        for node in pipeline.nodes
        if trains(node)
    ]
    if len(trainings) == 1:
        return trainings[0]
    return {f"{one[PATH]}.{name}": value for one in trainings for name, value in one.items()}


def effective_settings(told: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a training uses, before it begins.

    Of several stages the last one's settings have the plain names, so that they stand beside those
    of paths with one stage; of the stages before, what differs from it has their name in front.

    Args:
        told: The groups of settings that a training is told, by their last names.

    Returns:
        Each setting by its full name; none that the path does not use.
    """
    training, network = told["training"], told.get("network")
    used = {PATH: told["evaluation"].path}
    if network is None:
        llm, terms = told["llm"], told.get("terms")
        used |= _named("model", told["model"].model_dump())
        if llm.architecture is None:
            used |= {"llm.pretrained": llm.pretrained}
        else:
            used |= _named("llm", llm.architecture.model_dump())
        used |= {"llm.freeze": llm.freeze}
        if terms is not None and terms.kind != "none":
            apart = {"hidden_sizes", "dropout", "batch_norm"} if terms.kind == "fm" else set()
            used |= _named("terms", terms.model_dump(exclude=apart))
    else:
        used |= _named("network", network.root.model_dump())
        shared = _parts_of_baseline(network.root)
        used |= _named("model", told["model"].model_dump(include=shared))
        if "teacher" in told:
            used |= _named("teacher", told["teacher"].model_dump())
    has_encoder = network is None or network.root.model != "logistic_regression"
    stages = {
        name: dict(_of_stage(training, stage, has_encoder))
        for name, stage in told["stages"].root.items()
    }
    _, last = stages.popitem()
    used |= _named("training", last)
    for name, own in stages.items():
        differing = {key: value for key, value in own.items() if last.get(key) != value}
        used |= _named(f"{name}.training", differing)
    return used


def _last(name: str) -> str:
    """The last name of a dataset or a group of settings."""
    return name.rpartition(".")[2].removeprefix("params:")


def _of_stage(
    training: TrainingSettings, stage: Stage, has_encoder: bool
) -> Iterator[tuple[str, Any]]:
    settings = training.of(stage)
    for name, value in settings.model_dump(exclude=HOUSEKEEPING | NOT_YET_KNOWN).items():
        if name == "encoder_lr":
            parts = ENCODER if stage.components is None else stage.components
            if has_encoder and {*parts} & {*ENCODER}:
                yield name, value
        elif settings.lr_schedule in SCHEDULED.get(name, (settings.lr_schedule,)):
            yield name, value
    yield "datasets", stage.datasets
    yield "components", stage.components or ("all",)
    yield "start", stage.start


def _parts_of_baseline(network: Any) -> set[str]:
    """Which settings of `model` a baseline has too."""
    if network.model == "logistic_regression":
        return set()
    has_gen = getattr(network, "gen", False)
    return {*(EncoderSettings if has_gen else EmbeddingSettings).model_fields}


def _named(group: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{group}.{name}": " ".join(map(str, value)) if isinstance(value, tuple) else value
        for name, value in settings.items()
    }
