"""The models that a checkpoint can hold, by the name that it holds them under."""

from collections.abc import Mapping
from typing import Any

from llm_ctr_pipeline.models.deepfm import DeepFm
from llm_ctr_pipeline.models.llm_ctr import LlmCtr

CtrModel = LlmCtr | DeepFm

MODELS: dict[str, type[LlmCtr] | type[DeepFm]] = {"llm_ctr": LlmCtr, "deepfm": DeepFm}


def describe_model(model: CtrModel) -> dict[str, Any]:
    """All that `build_model` needs to build the model again, as JSON types."""
    kind = next(name for name, type_ in MODELS.items() if isinstance(model, type_))
    return {"kind": kind, **model.describe()}


def build_model(description: Mapping[str, Any]) -> CtrModel:
    """Build the frame, with random weights, of the model that `describe_model` described."""
    return MODELS[description["kind"]].from_description(description)
