from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_ctr_pipeline.models.settings import (
    BaselineNetworkSettings,
    LlmCtrSettings,
    LlmSettings,
    TermsSettings,
)
from llm_ctr_pipeline.params import EvaluationParams
from llm_ctr_pipeline.tracking.effective import ENCODER, HOUSEKEEPING, effective_settings
from llm_ctr_pipeline.training import optimizer
from llm_ctr_pipeline.training.settings import (
    BaselineStages,
    Execution,
    Stages,
    TeacherSettings,
    TrainingSettings,
    TwoPhaseStages,
)

GROUPS = yaml.safe_load((Path(__file__).parents[2] / "conf/base/parameters_train.yml").read_text())
MODEL = LlmCtrSettings.model_validate(GROUPS["model"])
MLP = {"hidden_sizes": (8, 4), "dropout": 0.0, "batch_norm": False}
PRETRAINED = LlmSettings(pretrained="qwen", architecture=None, attention="auto")


def make_settings(**changes: Any) -> TrainingSettings:
    return TrainingSettings.model_validate(GROUPS["training"] | changes)


def stage(**own: Any) -> dict[str, Any]:
    return {"datasets": ["x4"], "components": None, "start": "new", **own}


def used_by(path: str, training: TrainingSettings | None = None, **told: Any) -> dict[str, Any]:
    evaluation = EvaluationParams(
        path=path, model="best_model", dataset="x4", split="test", group_by=None
    )
    groups = {"training": training or make_settings(), "model": MODEL, "evaluation": evaluation}
    return effective_settings(groups | told)


def baseline(network: dict[str, Any], **own: Any) -> dict[str, Any]:
    return {
        "network": BaselineNetworkSettings.model_validate(network),
        "stages": BaselineStages.model_validate({"end_to_end": stage(**own)}),
    }


def test_a_stages_own_settings_have_the_names_of_every_path() -> None:
    used = used_by("deepfm", **baseline({"model": "deepfm", "gen": True, **MLP}, lr=0.25, epochs=7))
    assert (used["training.lr"], used["training.epochs"]) == (0.25, 7)
    assert (used["training.datasets"], used["training.components"]) == ("x4", "all")
    assert used["network.hidden_sizes"] == "8 4"
    assert used["Path"] == "deepfm"
    assert min(used) == "Path"  # before all settings, in MLflow's order
    assert not [name for name in used if "stages" in name or name.startswith("deepfm")]


@pytest.mark.parametrize(
    ("network", "shared"),
    [
        (
            {"model": "deepfm", "gen": True, **MLP},
            {"embedding_dim", "embedding_init_std", "gen_gamma"},
        ),
        ({"model": "deepfm", "gen": False, **MLP}, {"embedding_dim", "embedding_init_std"}),
        (
            {"model": "dcnv2", "structure": "stacked", "cross_layers": 1, **MLP},
            {"embedding_dim", "embedding_init_std"},
        ),
        ({"model": "logistic_regression"}, set()),
    ],
)
def test_a_baseline_has_no_settings_of_a_language_model(
    network: dict[str, Any], shared: set[str]
) -> None:
    # The node that trains a distilled one is told of a language model: its teacher's.
    used = used_by("distilled", **baseline(network), llm=PRETRAINED)
    assert {name for name in used if name.startswith("model.")} == {f"model.{n}" for n in shared}
    assert not [name for name in used if name.startswith(("llm.", "terms."))]
    assert ("training.encoder_lr" in used) == (network["model"] != "logistic_regression")


def test_a_teacher_is_among_what_is_used() -> None:
    teacher = TeacherSettings(path="single_phase", weight=0.5, temperature=2.0)
    used = used_by("distilled", **baseline({"model": "logistic_regression"}), teacher=teacher)
    assert used["teacher.path"] == "single_phase"


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("none", set()),
        ("fm", {"kind", "gen"}),
        ("deepfm", {"kind", "gen", "hidden_sizes", "dropout", "batch_norm"}),
    ],
)
def test_terms_are_used_as_their_kind_says(kind: str, names: set[str]) -> None:
    terms = TermsSettings.model_validate({"kind": kind, "gen": True, **MLP})
    stages = Stages.model_validate({"end_to_end": stage()})
    used = used_by("hybrid", llm=PRETRAINED, terms=terms, stages=stages)
    assert {name for name in used if name.startswith("terms.")} == {f"terms.{n}" for n in names}
    assert used["model.prompt"] == MODEL.prompt
    llm = {name: value for name, value in used.items() if name.startswith("llm.")}
    assert llm == {"llm.pretrained": "qwen", "llm.freeze": False}


def test_the_last_stage_has_the_plain_names_and_others_what_differs() -> None:
    first = stage(datasets="x1 x2", components=["projector"], lr=0.5, epochs=3)
    last = stage(components=["projector", "llm"], start="previous", epochs=3)
    stages = TwoPhaseStages.model_validate({"phase_1": first, "phase_2": last})
    used = used_by("two_phase", make_settings(lr=0.1), llm=PRETRAINED, stages=stages)
    assert (used["training.lr"], used["training.components"]) == (0.1, "projector llm")
    assert "training.encoder_lr" not in used  # no stage trains an encoder
    assert {name: value for name, value in used.items() if name.startswith("phase_1.")} == {
        "phase_1.training.lr": 0.5,
        "phase_1.training.datasets": "x1 x2",
        "phase_1.training.components": "projector",
        "phase_1.training.start": "new",
    }
    assert not [name for name in used if name.startswith("phase_2.")]


@pytest.mark.parametrize(
    ("schedule", "names"),
    [
        ("constant", set()),
        ("plateau", {"lr_factor", "lr_min"}),
        ("warmup_cosine", {"lr_warmup_steps", "lr_min"}),
        ("warmup_linear", {"lr_warmup_steps", "lr_min"}),
    ],
)
def test_a_schedule_uses_its_own_settings(schedule: str, names: set[str]) -> None:
    training = make_settings(lr_schedule=schedule)
    used = used_by("dcnv2", training, **baseline({"model": "logistic_regression"}))
    found = {name.removeprefix("training.") for name in used if name.startswith("training.lr_")}
    assert found == {"lr_schedule", *names}


def test_what_only_says_how_a_run_goes_on_is_not_logged() -> None:
    used = used_by("dcnv2", **baseline({"model": "logistic_regression"}))
    apart = {*Execution.model_fields, *HOUSEKEEPING}
    assert not {f"training.{name}" for name in apart} & used.keys()
    rest = TrainingSettings.model_fields.keys() - apart - {"encoder_lr"}
    scheduled = {"lr_factor", "lr_warmup_steps", "lr_min"}
    assert {f"training.{name}" for name in rest - scheduled} <= used.keys()


def test_the_encoder_is_the_optimisers() -> None:
    assert ENCODER == optimizer.ENCODER
