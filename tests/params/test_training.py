"""Which stages a path may have, and how settings of training are written."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from llm_ctr_pipeline.models.deepfm import DeepFm
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.settings import DeepFmSettings
from llm_ctr_pipeline.params import (
    DeepFmStagesParams,
    StageParams,
    StagesParams,
    TrainingParams,
    TwoPhaseStagesParams,
)
from llm_ctr_pipeline.params.training import DEEPFM_COMPONENTS, LLM_CTR_COMPONENTS
from llm_ctr_pipeline.settings import CONFIG_LOADER_ARGS


def stage(start: str = "new", **changes: Any) -> dict[str, Any]:
    return {"datasets": ["x4"], "components": None, "start": start, **changes}


def test_the_names_of_the_components_are_the_models(make_model: Any) -> None:
    llm_ctr: LlmCtr = make_model()
    assert tuple(name for name, _ in llm_ctr.named_children()) == LLM_CTR_COMPONENTS
    settings = DeepFmSettings(
        embedding_dim=4,
        embedding_init_std=0.1,
        gen=True,
        gen_gamma=6.0,
        hidden_sizes=(8,),
        dropout=0.0,
    )
    deepfm = DeepFm(settings, (3, 5))
    assert tuple(name for name, _ in deepfm.named_children()) == DEEPFM_COMPONENTS


def test_names_may_be_one_string() -> None:
    """`--params` carries no lists."""
    made = StageParams(**stage(datasets="x2 x1", components="projector llm"))
    assert made.datasets == ("x2", "x1")
    assert made.components == ("projector", "llm")
    with pytest.raises(ValidationError, match="at least 1 item"):
        StageParams(**stage(components=" "))


@pytest.mark.parametrize(
    ("path", "stages", "message"),
    [
        (StagesParams, {}, "this path needs stages, 1 or more"),
        (StagesParams, {"a": stage("deepfm")}, "start is deepfm: this path's first stage starts"),
        (DeepFmStagesParams, {"a": stage("deepfm")}, "first stage starts from new, all others"),
        (StagesParams, {"a": stage("previous")}, "start is previous: "),
        (StagesParams, {"a": stage(), "b": stage()}, "start is new, new: "),
        (TwoPhaseStagesParams, {"a": stage("deepfm")}, "this path needs stages, 2 or more"),
        (
            StagesParams,
            {"a": stage(components=["llm", "mlp"])},
            "a trains mlp: the components of this path's model are embedding, gen, projector, llm",
        ),
        (
            DeepFmStagesParams,
            {"a": stage(components=["llm"])},
            "a trains llm: the components of this path's model are embedding, gen, linear, mlp",
        ),
    ],
)
def test_stages_that_a_path_cannot_have_are_refused(
    path: type[StagesParams], stages: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        path(stages)


def test_two_phases_start_from_the_baseline_or_anew() -> None:
    for start in ("new", "deepfm"):
        made = TwoPhaseStagesParams({"a": stage(start), "b": stage("previous")})
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
    made = TrainingParams(**loader["parameters"]["training"])
    assert made.activation_checkpointing == read
    assert made.compile == read.replace("on", "off")


STAGES = {
    "single_phase": StagesParams,
    "deepfm": DeepFmStagesParams,
    "two_phase": TwoPhaseStagesParams,
    "two_phase_finetuned": TwoPhaseStagesParams,
}
TRAINED = {
    "single_phase": [(("x4",), LLM_CTR_COMPONENTS, 100, 256, 1e-4, 1e-3)],
    "deepfm": [(("x4",), None, 100, 10_000, 1e-3, 1e-3)],
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
    training = TrainingParams(**parameters["training"])
    found = []
    for stage in STAGES[path](parameters[path]["stages"]).root.values():
        fit = training.to_fit_settings(stage)
        found.append(
            (stage.datasets, fit.components, fit.epochs, fit.batch_size, fit.lr, fit.encoder_lr)
        )
        assert fit.patience == 2
    assert found == TRAINED[path]
