import json
from typing import Any

import pytest
from kedro.framework.project import configure_project, pipelines
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline

from llm_ctr_pipeline.params import EvaluationParams
from llm_ctr_pipeline.reporting.pages.facts import ChangedSetting
from llm_ctr_pipeline.tracking.naming import kind_of, name_of, note_of


@pytest.fixture(scope="module")
def registered() -> dict[str, Pipeline]:
    configure_project("llm_ctr_pipeline")
    pipelines.set_requested(None)
    return dict(pipelines)


@pytest.mark.parametrize(
    ("pipeline", "kind"),
    [
        ("__default__", "training"),
        ("compare", "comparison"),
        ("download", "download"),
        ("evaluate", "evaluation"),
        ("export", "export"),
        ("predict", "scoring"),
        ("preprocess", "data"),
        ("preprocess_all", "data"),
        ("register", "registration"),
        ("train", "training"),
        ("train_deepfm", "training"),
        ("train_two_phase", "training"),
    ],
)
def test_every_pipeline_is_of_a_kind(
    registered: dict[str, Pipeline], pipeline: str, kind: str
) -> None:
    assert kind_of(registered[pipeline]) == kind


@pytest.mark.parametrize(
    ("first", "kind"),
    [
        ("predict", "evaluation"),
        ("draw_roc", "figures"),
        ("draw_learning_curve", "figures"),
        ("write_report", "figures"),
    ],
)
def test_a_part_of_a_training_is_no_training(
    registered: dict[str, Pipeline], first: str, kind: str
) -> None:
    assert kind_of(registered["train"].from_nodes(f"single_phase.{first}")) == kind


def changed(**settings: Any) -> list[ChangedSetting]:
    return [
        ChangedSetting(name=name.replace("__", "."), default="1", used=json.dumps(value))
        for name, value in settings.items()
    ]


@pytest.mark.parametrize(
    ("pipeline", "env", "settings", "name"),
    [
        ("train", None, {}, "single_phase · x4"),
        ("train", "local", {"training__lr": 5e-4}, "single_phase · x4 · lr 5e-4"),
        ("train", "x4", {}, "single_phase · x4"),
        ("train", "test", {"training__seed": 7}, "single_phase · x4 · seed 7 · env test"),
        (
            "train",
            None,
            {"llm__pretrained": "a/very/long/name/of/a/language/model", "training__resume": False},
            "single_phase · x4 · pretrained a/very/long/name/of/a/la…",
        ),
        (
            "train",
            None,
            {
                "single_phase__stages__end_to_end__lr": 0.1,
                "single_phase__stages__warm__lr": 0.25,
                "training__epochs": 3,
                "training__patience": 3,
                "training__seed": 3,
            },
            "single_phase · x4 · lr 0.1 · warm lr 0.25 · epochs 3 · +2",
        ),
        (
            "evaluate",
            None,
            {"evaluation__split": "valid", "evaluation__group_by": "hour"},
            "evaluation · deepfm · x4 valid · group_by hour",
        ),
        ("register", None, {}, "registration · single_phase"),
    ],
)
def test_a_name_says_what_tells_runs_apart(
    registered: dict[str, Pipeline],
    pipeline: str,
    env: str | None,
    settings: dict[str, Any],
    name: str,
) -> None:
    common = {"model": "best_model", "dataset": "x4", "group_by": None}
    trained = EvaluationParams(path="single_phase", split="test", **common)
    tested = EvaluationParams(path="deepfm", split="valid", **common)
    told = {"single_phase.evaluation": trained, "evaluation": tested, "register": trained}
    catalog = DataCatalog({f"params:{key}": MemoryDataset(value) for key, value in told.items()})
    asked = registered[pipeline]
    assert name_of(kind_of(asked), asked, catalog, env, changed(**settings)) == name


def test_a_note_holds_the_whole_command_and_what_is_set_otherwise() -> None:
    note = note_of("a name", "training", "kedro run --env=test", changed(model__prompt="a|b`c"))
    assert note.splitlines() == [
        "**a name** (training)",
        "",
        "```bash",
        "kedro run --env=test",
        "```",
        "",
        "| setting | here | in conf/base |",
        "|---|---|---|",
        '| `model.prompt` | `"a\\|b\'c"` | `1` |',
    ]
    assert "setting" not in note_of("a name", "data", "kedro run", [])
