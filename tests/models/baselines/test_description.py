"""What holds for every baseline."""

import json

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from llm_ctr_pipeline.models.baselines.description import Baseline, BaselineDescription
from llm_ctr_pipeline.training.optimizer import build_optimizer
from llm_ctr_pipeline.training.settings import BASELINE_COMPONENTS
from tests.baselines import FIELD_SIZES, NETWORKS, describe, move_weights

IDS_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0], [2, 2, 1]])
every_network = pytest.mark.parametrize("name", NETWORKS)


def made(name: str) -> Baseline:
    torch.manual_seed(0)
    model = describe(name).build()
    move_weights(model)
    return model


@every_network
def test_a_description_builds_the_same_model(name: str) -> None:
    model = made(name)
    written = json.loads(json.dumps(model.describe().to_json()))
    description: BaselineDescription = TypeAdapter(type(model.describe())).validate_python(written)
    assert description == model.describe() == describe(name)
    again = description.build()
    assert not torch.allclose(again(IDS_BF), model(IDS_BF))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(IDS_BF), model(IDS_BF))
    assert again.field_sizes == FIELD_SIZES


@every_network
def test_gradients_of_every_weight_are_those_of_finite_differences(name: str) -> None:
    model = made(name).double()
    names, weights = zip(*model.named_parameters(), strict=True)

    def forward(*values: Tensor) -> Tensor:
        log_odds_B: Tensor = torch.func.functional_call(
            model, dict(zip(names, values, strict=True)), (IDS_BF,)
        )
        return log_odds_B

    assert torch.autograd.gradcheck(forward, weights)
    gradients = torch.autograd.grad(forward(*weights).sum(), weights)
    without = [n for n, gradient in zip(names, gradients, strict=True) if not gradient.any()]
    assert without == []


@every_network
def test_autocast_leaves_the_last_sum_in_float32(name: str) -> None:
    model = made(name)
    with torch.no_grad():
        exact_B = model(IDS_BF)
        bias = model.get_parameter(
            {"logistic_regression": "bias", "finalmlp": "output.left.bias"}.get(
                name.split(maxsplit=1)[0], "output.bias"
            )
        )
        bias += 1000
        with torch.autocast("cpu", torch.bfloat16):
            rounded_B = model(IDS_BF)
    assert rounded_B.dtype == torch.float32
    # bfloat16 counts in steps of 4 at 1000
    torch.testing.assert_close(rounded_B - 1000, exact_B, rtol=0.05, atol=0.05)


@every_network
def test_ids_may_be_int32(name: str) -> None:
    model = made(name)
    assert torch.equal(model(IDS_BF.int()), model(IDS_BF))


@pytest.mark.parametrize(
    ("name", "decaying"),
    [
        ("logistic_regression", set()),
        ("dcnv2", {"cross.layers.0", "cross.layers.1", "mlp.layers.0", "mlp.layers.2", "output"}),
        (
            "finalmlp",
            {
                *("gate.mlp.layers.0", "gate.output", "second_gate.mlp.layers.0"),
                *("second_gate.output", "mlp.layers.0", "mlp.layers.2", "second_mlp.layers.0"),
                *("output", "output.left", "output.right"),
            },
        ),
    ],
)
def test_matrices_decay_and_nothing_else(name: str, decaying: set[str]) -> None:
    model = made(name)
    optimizer = build_optimizer(model, lr=0.1, encoder_lr=0.01, weight_decay=0.5)
    names = {id(weight): name for name, weight in model.named_parameters()}
    decayed = {
        names[id(weight)]
        for group in optimizer.param_groups
        for weight in group["params"]
        if group["weight_decay"] > 0
    }
    assert decayed == {f"{layer}.weight" for layer in decaying}


def test_the_names_of_the_components_are_the_models() -> None:
    parts = {part for name in NETWORKS for part, _ in made(name).named_children()}
    assert parts == {*BASELINE_COMPONENTS}
