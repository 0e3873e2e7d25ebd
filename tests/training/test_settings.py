"""Which stages a path may have, and how settings of training are written."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.settings import CONFIG_LOADER_ARGS
from llm_ctr_pipeline.training.settings import (
    BASELINE_PATHS,
    LLM_CTR_COMPONENTS,
    TWO_PHASE_PATHS,
    BaselineStages,
    Execution,
    Stage,
    Stages,
    TrainingSettings,
    TwoPhaseStages,
)
from tests.decoders import DEEPFM_TERMS


def stage(start: str = "new", **changes: Any) -> dict[str, Any]:
    return {"datasets": ["x4"], "components": None, "start": start, **changes}


def test_the_names_of_the_components_are_the_models(make_model: Any) -> None:
    llm_ctr: LlmCtr = make_model(terms=DEEPFM_TERMS)
    parts = [name for name, part in llm_ctr.named_children() if list(part.parameters())]
    assert tuple(parts) == LLM_CTR_COMPONENTS


def test_names_may_be_one_string() -> None:
    """`--params` carries no lists."""
    made = Stage(**stage(datasets="x2 x1", components="projector llm"))
    assert made.datasets == ("x2", "x1")
    assert made.components == ("projector", "llm")
    with pytest.raises(ValidationError, match="at least 1 item"):
        Stage(**stage(components=" "))


@pytest.mark.parametrize(
    ("path", "stages", "message"),
    [
        (Stages, {}, "this path needs stages, 1 or more"),
        (Stages, {"a": stage("deepfm")}, "start is deepfm: this path's first stage starts"),
        (BaselineStages, {"a": stage("deepfm")}, "first stage starts from new, all others"),
        (Stages, {"a": stage("previous")}, "start is previous: "),
        (Stages, {"a": stage(), "b": stage()}, "start is new, new: "),
        (TwoPhaseStages, {"a": stage("deepfm")}, "this path needs stages, 2 or more"),
        (
            Stages,
            {"a": stage(components=["llm", "mlp"])},
            "a trains mlp: the components of this path's model are embedding, gen, projector, llm, "
            "terms",
        ),
        (
            BaselineStages,
            {"a": stage(components=["llm"])},
            "a trains llm: the components of this path's model are embedding, gen, linear, cross",
        ),
    ],
)
def test_stages_that_a_path_cannot_have_are_refused(
    path: type[Stages], stages: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        path(stages)


def test_a_frozen_component_is_left_out_of_every_stage() -> None:
    made = Stages({"a": stage(), "b": stage("previous", components=["llm", "projector"], lr=0.1)})
    left = made.without("llm", ("embedding", "llm", "terms"))
    assert [each.components for each in left.root.values()] == [
        ("embedding", "terms"),
        ("projector",),
    ]
    assert left.root["b"] == made.root["b"].model_copy(update={"components": ("projector",)})
    two_phases = TwoPhaseStages({"a": stage(), "b": stage("previous")})
    assert type(two_phases.without("llm", LLM_CTR_COMPONENTS)) is TwoPhaseStages
    with pytest.raises(
        SettingsError,
        match=r"^stage a trains llm alone, and llm\.freeze is true: set it to false, or name other",
    ):
        Stages({"a": stage(components=["llm"])}).without("llm", LLM_CTR_COMPONENTS)


def test_two_phases_start_from_the_baseline_or_anew() -> None:
    for start in ("new", "deepfm"):
        made = TwoPhaseStages({"a": stage(start), "b": stage("previous")})
        assert [one.start for one in made.root.values()] == [start, "previous"]


@pytest.mark.parametrize(("written", "read"), [("on", "on"), ("off", "off"), ("auto", "auto")])
def test_on_and_off_may_be_written_without_quotes(project: Path, written: str, read: str) -> None:
    """YAML 1.1 reads them as booleans, on the command line too."""
    file = project / "conf/test/parameters.yml"
    file.write_text(file.read_text() + f"  activation_checkpointing: {written}\n")
    given = {"training": yaml.safe_load(f"compile: {written.replace('on', 'off')}")}
    loader = OmegaConfigLoader(
        str(project / "conf"), env="test", runtime_params=given, **CONFIG_LOADER_ARGS
    )
    made = TrainingSettings(**loader["parameters"]["training"])
    assert made.activation_checkpointing == read
    assert made.compile == read.replace("on", "off")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:first", "mps", "meta", "tpu"])
def test_no_devices_name_is_refused(make_execution: Callable[..., Execution], device: str) -> None:
    with pytest.raises(ValidationError, match="it should be auto, cpu, cuda or cuda:N"):
        make_execution(device=device)


def test_what_a_stage_leaves_out_is_the_trainings(
    make_settings: Callable[..., TrainingSettings],
) -> None:
    training = make_settings(lr=0.01, epochs=7, validate_every_steps=5)
    own = {"epochs": 2, "patience": 1}
    assert training.of(Stage(**stage(**own, lr=None))) == training.model_copy(update=own)
    assert training.of(Stage(**stage())) == training
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Stage(**stage(epochs=0))


STAGES = {
    "single_phase": Stages,
    "hybrid": Stages,
    **dict.fromkeys((*BASELINE_PATHS, "distilled"), BaselineStages),
    "two_phase": TwoPhaseStages,
    "two_phase_finetuned": TwoPhaseStages,
}
TRAINED = {
    "single_phase": [(("x4",), None, 1, 256, 1e-4, 1e-3)],
    "hybrid": [(("x4",), None, 1, 256, 1e-4, 1e-3)],
    **{path: [(("x4",), None, 1, 10_000, 1e-3, 1e-3)] for path in (*BASELINE_PATHS, "distilled")},
    "logistic_regression": [(("x4",), None, 100, 10_000, 1e-3, 1e-3)],
    "two_phase": [
        (("x1", "x2"), ("projector",), 1, 256, 1e-3, 1e-3),
        (("x4",), ("projector", "llm"), 1, 32, 1e-4, 1e-3),
    ],
    "two_phase_finetuned": [
        (("x1", "x2"), ("embedding", "gen", "projector"), 1, 256, 1e-3, 1e-3),
        (("x4",), ("projector", "llm"), 1, 32, 1e-4, 1e-3),
    ],
}


@pytest.mark.parametrize("path", TRAINED)
def test_the_real_experiments_stages(project: Path, path: str) -> None:
    """Datasets, components, epochs, batch size and the two learning rates of each stage."""
    loader = OmegaConfigLoader(str(project / "conf"), env="avazu", **CONFIG_LOADER_ARGS)
    parameters = loader["parameters"]
    training = TrainingSettings(**parameters["training"])
    found = []
    for stage in STAGES[path](parameters[path]["stages"]).root.values():
        fit = training.of(stage)
        found.append(
            (stage.datasets, stage.components, fit.epochs, fit.batch_size, fit.lr, fit.encoder_lr)
        )
    assert found == TRAINED[path]


def test_the_two_phase_paths_and_the_baselines_are_told_from_the_others() -> None:
    assert BASELINE_PATHS == ("deepfm", "logistic_regression", "dcnv2", "finalmlp")
    assert TWO_PHASE_PATHS == ("two_phase", "two_phase_finetuned")
