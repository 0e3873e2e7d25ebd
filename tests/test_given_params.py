from typing import Any

import click
import pytest
from pydantic import BaseModel

from llm_ctr_pipeline.data.log.schema import LogSchema
from llm_ctr_pipeline.given_params import below, read, split, tree_of
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings
from llm_ctr_pipeline.params import CompareParams
from llm_ctr_pipeline.training.settings import Stages, TrainingSettings

TYPES = {
    "model": LlmCtrSettings,
    "llm": LlmSettings,
    "training": TrainingSettings,
    "single_phase.stages": Stages,
    "x1.log": LogSchema | None,
    "compare": CompareParams,
}


def value_of(text: str) -> Any:
    """What `--params` gives for one setting."""
    value: Any = read(split(text), TYPES)
    while isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return value


@pytest.mark.parametrize(
    "prompt",
    [
        "Rank item # of clicks 0 or 1",
        "Answer: 1 for click",
        "[USER] clicks?",
        "2024",
        "1e3",
        "no",
        "null",
        "",
        "  spaces around ",
        "a, b, and c = d",
        "'single' \"double\" quotes",
        "{brace} & *star !tag %percent @at `tick` | > - ?",
        "ünïcode ☃ 日本",
        "two\nlines",
        r"back\slash \n",
    ],
)
def test_a_text_is_taken_as_it_was_typed(prompt: str) -> None:
    given = read(split(f"training.epochs=3,model.prompt={prompt},training.lr=1e-3"), TYPES)
    assert given == {"training": {"epochs": 3, "lr": 0.001}, "model": {"prompt": prompt}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("raw_dir=/x/log #2", "/x/log #2"),
        ("store=no", "no"),
        # MLflow's ids may look like numbers, and a number of this form is infinite.
        ("compare.baseline=12345678901234567890123456789012", "12345678901234567890123456789012"),
        ("mlflow_run_id=123e4567890123456789012345678901", "123e4567890123456789012345678901"),
        ("llm.pretrained=null", None),
        ("llm.pretrained=", None),
        ("llm.architecture.model_type=on", "on"),
        ("x1.log.splits.valid=0.1", 0.1),
        ("x1.log.splits.valid=valid #1.csv", "valid #1.csv"),
        ("single_phase.stages.end_to_end.datasets=x1 x2", "x1 x2"),
        ("single_phase.stages.end_to_end.components=[gen, llm]", ["gen", "llm"]),
        ("training.cpu_threads=null", None),
        ("training.resume=no", False),
        ("training.epochs=1e2", 100.0),
        ("elsewhere=[1, 2]", [1, 2]),
    ],
)
def test_a_value_is_read_by_the_type_of_its_setting(text: str, value: Any) -> None:
    read_value = value_of(text)
    assert (read_value, type(read_value)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model.prompt=costs ${price}", "model.prompt=costs ${price} cannot be read"),
        ("model.prompt=???", "model.prompt=??? cannot be read"),
        ("training.epochs=[1", "training.epochs=[1 cannot be read"),
        ("training.epochs=1: 2: 3", "training.epochs=1: 2: 3 cannot be read"),
        ("training.epochs", "--params holds 'training.epochs', which is not NAME=VALUE"),
        ("=3", "--params holds '=3', which is not NAME=VALUE"),
    ],
)
def test_what_cannot_be_taken_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(click.ClickException) as caught:
        read(split(text), TYPES)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_a_pretrained_language_model_needs_no_word_on_the_one_of_random_weights() -> None:
    pretrained = {"pretrained": "FOLDER", "architecture": None}
    assert read(split("llm.pretrained=FOLDER"), TYPES)["llm"] == pretrained
    assert read(split("llm.pretrained=null"), TYPES)["llm"] == {"pretrained": None}
    both = read(split("llm.pretrained=FOLDER,llm.architecture.head_dim=8"), TYPES)["llm"]
    assert both["architecture"] == {"head_dim": 8}


def test_nothing_given_is_nothing_read() -> None:
    assert read(split(""), TYPES) == {}


def test_names_of_settings_are_those_of_the_types() -> None:
    tree = tree_of(TYPES)
    assert below(tree["x1"]["log"]).keys() == LogSchema.model_fields.keys()
    stages = below(tree["single_phase"]["stages"], ["phase_9"])
    assert "epochs" in below(stages["phase_9"])
    assert below(below(tree["training"])["epochs"]) == {}
    assert below(dict[str, BaseModel], ["any"]) == {"any": BaseModel}
