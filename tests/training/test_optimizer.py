"""Which weights train, and with which learning rate."""

import copy
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.training.fit import fit
from llm_ctr_pipeline.training.optimizer import (
    UnknownComponentError,
    build_optimizer,
    check_components,
    freeze_all_but,
    weights_of,
)
from llm_ctr_pipeline.training.settings import TrainingSettings
from tests.decoders import DEEPFM_TERMS, EVERYTHING

MakeModel = Callable[..., LlmCtr]
MakeSplit = Callable[..., EncodedSplit]
MakeSettings = Callable[..., TrainingSettings]


def test_each_learning_rate_reaches_its_components(make_model: MakeModel) -> None:
    model = make_model(terms=DEEPFM_TERMS)
    groups = build_optimizer(model, lr=1e-4, encoder_lr=1e-3, weight_decay=0.1).param_groups
    names = {id(parameter): name.split(".")[0] for name, parameter in model.named_parameters()}
    reached: dict[float, set[str]] = {}
    for group in groups:
        reached.setdefault(group["lr"], set()).update(names[id(w)] for w in group["params"])
    assert reached == {1e-3: {"embedding", "gen", "terms"}, 1e-4: {"projector", "llm"}}
    assert sum(len(group["params"]) for group in groups) == len(names)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2", "gemma"])
def test_matrices_alone_decay(
    make_causal_lm: Callable[..., PreTrainedModel], make_model: MakeModel, architecture: str
) -> None:
    """Norms, biases, embeddings, vocabulary and answer rows stay where no gradient moves them."""
    parts = EVERYTHING if architecture == "qwen3" else {}
    model = make_model(make_causal_lm(architecture, tie_word_embeddings=False), **parts)
    assert model.llm.answer_rows is not None
    for name, weight in model.named_parameters():  # as what starts at 0 would after some steps
        if name in {"projector.vectors.weight", "terms.linear.table.weight"}:
            torch.nn.init.ones_(weight)
    before = copy.deepcopy(model.state_dict())
    optimizer = build_optimizer(model, lr=0.1, encoder_lr=0.1, weight_decay=0.5)
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    for name, weight in model.state_dict().items():
        a_table = name.startswith(("embedding", "llm.answer")) or "embed" in name or "wpe" in name
        a_table |= "wte" in name or "vectors" in name or name.startswith("terms.linear")
        decays = weight.ndim > 1 and not a_table and not name.endswith("bias")
        expected = before[name] * (1 - 0.1 * 0.5 * decays)
        torch.testing.assert_close(weight, expected, msg=lambda m, n=name: n + m)


def test_frozen_parameters_are_left_out_of_the_optimiser(make_model: MakeModel) -> None:
    model = make_model()
    model.gen.requires_grad_(False)
    groups = build_optimizer(model, 1e-4, 1e-3, 0.0).param_groups
    (encoder,) = (group["params"] for group in groups if group["lr"] == 1e-3)
    assert [id(parameter) for parameter in encoder] == [id(model.embedding.table.weight)]


def test_a_component_without_a_learning_rate_does_not_move(
    make_model: MakeModel, make_split: MakeSplit, make_settings: MakeSettings
) -> None:
    for still, rates in (
        ({"embedding", "gen"}, {"encoder_lr": 0.0}),
        ({"projector", "llm"}, {"lr": 0.0}),
    ):
        model = make_model()
        before = copy.deepcopy(model.state_dict())
        settings = make_settings(epochs=1).model_copy(update=rates)
        fit(model, make_split(32, 1), make_split(32, 2), settings)
        moved = {
            name.split(".")[0]
            for name, weight in model.state_dict().items()
            if not torch.equal(weight, before[name])
        }
        assert moved == {"embedding", "gen", "projector", "llm"} - still


@pytest.mark.parametrize("components", [("gen", "llm"), None])
def test_the_named_components_train_whatever_was_frozen_before(
    make_model: MakeModel, components: tuple[str, ...] | None
) -> None:
    model = make_model()
    model.requires_grad_(False)
    freeze_all_but(model, components)
    trained = {name.split(".")[0] for name, w in model.named_parameters() if w.requires_grad}
    assert trained == set(components or ("embedding", "gen", "projector", "llm"))
    ids = [id(weight) for weight in weights_of(model, components)]
    assert ids == [id(weight) for weight in model.parameters() if weight.requires_grad]


def test_a_stage_that_trains_nothing_is_refused(make_model: MakeModel) -> None:
    with pytest.raises(UnknownComponentError, match="a stage trains no component; the components"):
        check_components(make_model(), ())
