import json

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from llm_ctr_pipeline.models.baselines.deepfm import (
    DeepFm,
    DeepFmDescription,
    ordered_products,
    pairwise_products,
)
from llm_ctr_pipeline.models.settings import DeepFmSettings

FIELD_SIZES = (3, 5, 4)
WITH_GEN = DeepFmSettings(
    embedding_dim=4,
    embedding_init_std=0.5,
    gen=True,
    gen_gamma=6.0,
    hidden_sizes=(8, 6),
    dropout=0.0,
    batch_norm=False,
)
STANDARD = WITH_GEN.model_copy(update={"gen": False})
IDS_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0], [2, 2, 1]])


def _model(settings: DeepFmSettings, seed: int = 0) -> DeepFm:
    """A model in which no weight is 0, so that each one matters."""
    model = DeepFm.create(settings, FIELD_SIZES, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def _small(embedding_dim: int, gen: bool, width: int) -> DeepFmSettings:
    changes = {"embedding_dim": embedding_dim, "gen": gen, "hidden_sizes": (width,)}
    return WITH_GEN.model_copy(update={**changes, "embedding_init_std": 0.1})


def _by_hand(gen: bool) -> float:
    """The model's answer to ids (1, 0) with weights that a pencil can follow.

    Two fields of 2 ids, D = 2, one hidden layer of 2. Row 1 of the first field is e_1 = (1, 2),
    row 0 of the second is e_2 = (3, −1). The linear weights are 0.5 and −2, the output's bias 0.25.
    The MLP's first unit gets 1 + 2 + 3 − 1 = 5, its second −(1 + 2 + 3 − 1) + 1 = −4, which
    ReLU cuts to 0; the output weighs them 0.1 and 7: 0.5.
    GEN adds each field's embedding to the next one's in turn: W takes flat(e) = (1, 2, 3, −1) to
    (1 + 3, 2 − 1, …) = (4, 1, …), so with γ = 6 gen_1 = (24, 6).
    """
    model = DeepFm(_small(2, gen, width=2), (2, 2))
    weights = {
        "embedding.table.weight": [[9, 9], [1, 2], [3, -1], [9, 9]],
        "linear.table.weight": [[9], [0.5], [-2], [9]],
        "mlp.layers.0.weight": [[1, 1, 1, 1], [-1, -1, -1, -1]],
        "mlp.layers.0.bias": [0, 1],
        "output.weight": [[0.1, 7]],
        "output.bias": [0.25],
    }
    if gen:
        weights["gen.generate.weight"] = [[1, 0, 1, 0], [0, 1, 0, 1], [5, 5, 5, 5], [5, 5, 5, 5]]
    model.load_state_dict({name: torch.tensor(rows).float() for name, rows in weights.items()})
    (log_odds,) = model(torch.tensor([[1, 0]], dtype=torch.int32)).tolist()
    return float(log_odds)


def test_the_standard_model_by_hand() -> None:
    # LR: 0.5 − 2 = −1.5; FM: ⟨e_1, e_2⟩ = 1·3 + 2·(−1) = 1; MLP: 0.5 + 0.25
    assert _by_hand(gen=False) == pytest.approx(-1.5 + 1 + 0.75)


def test_the_model_with_gen_by_hand() -> None:
    # FM: ⟨gen_1, e_2⟩ = 24·3 + 6·(−1) = 66; gen_2 and e_1 are in no pair
    assert _by_hand(gen=True) == pytest.approx(-1.5 + 66 + 0.75)


def _double_loop(left_BFD: Tensor, right_BFD: Tensor) -> Tensor:
    fields = left_BFD.shape[1]
    products = [
        (left_BFD[:, i] * right_BFD[:, j]).sum(dim=1)
        for i in range(fields)
        for j in range(i + 1, fields)
    ]
    return torch.stack(products).sum(dim=0)


@pytest.mark.parametrize("fields", [2, 3, 24])
def test_interactions_equal_the_sum_over_pairs(fields: int) -> None:
    left_BFD, right_BFD = torch.randn(2, 5, fields, 4, dtype=torch.float64)
    torch.testing.assert_close(
        ordered_products(left_BFD, right_BFD), _double_loop(left_BFD, right_BFD)
    )
    torch.testing.assert_close(pairwise_products(left_BFD), _double_loop(left_BFD, left_BFD))
    both_ways = _double_loop(right_BFD, left_BFD)
    assert not torch.allclose(ordered_products(left_BFD, right_BFD), both_ways)


@pytest.mark.parametrize("settings", [WITH_GEN, STANDARD])
def test_gradients_of_every_weight_are_those_of_finite_differences(
    settings: DeepFmSettings,
) -> None:
    model = _model(settings).double()
    names, weights = zip(*model.named_parameters(), strict=True)

    def forward(*values: Tensor) -> Tensor:
        log_odds_B: Tensor = torch.func.functional_call(
            model, dict(zip(names, values, strict=True)), (IDS_BF,)
        )
        return log_odds_B

    assert torch.autograd.gradcheck(forward, weights)
    gradients = torch.autograd.grad(forward(*weights).sum(), weights)
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("settings", [WITH_GEN, STANDARD])
def test_a_description_builds_the_same_model(settings: DeepFmSettings) -> None:
    model = _model(settings)
    description = json.loads(json.dumps(model.describe().to_json()))
    again = DeepFmDescription.from_json(description).build()
    assert not torch.allclose(again(IDS_BF), model(IDS_BF))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(IDS_BF), model(IDS_BF))
    assert again.settings == settings
    assert again.field_sizes == FIELD_SIZES
    assert again.describe() == model.describe()


def test_the_standard_model_has_no_gen() -> None:
    names = {name.split(".")[0] for name in _model(STANDARD).state_dict()}
    assert names == {"embedding", "linear", "mlp", "output"}
    assert {name.split(".")[0] for name in _model(WITH_GEN).state_dict()} == names | {"gen"}


def test_the_same_seed_creates_the_same_model_and_another_seed_another() -> None:
    states = [DeepFm.create(WITH_GEN, FIELD_SIZES, seed).state_dict() for seed in (1, 1, 2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    drawn = {name for name in states[0] if not torch.equal(states[0][name], states[2][name])}
    assert {name.split(".")[0] for name in drawn} == {"embedding", "gen", "mlp", "output"}


def test_an_id_counts_in_its_own_field_alone() -> None:
    model = _model(WITH_GEN)
    before_B = model(IDS_BF)
    with torch.no_grad():
        model.linear.table.weight[3 + 4] += 1  # id 4 of the second field
    torch.testing.assert_close(model(IDS_BF) - before_B, torch.tensor([0.0, 1.0, 0.0, 0.0]))


@pytest.mark.parametrize("settings", [WITH_GEN, STANDARD])
def test_autocast_leaves_the_sums_in_float32(settings: DeepFmSettings) -> None:
    model = _model(settings)
    with torch.no_grad():
        exact_B = model(IDS_BF)
        model.output.bias += 1000
        with torch.autocast("cpu", torch.bfloat16):
            rounded_B = model(IDS_BF)
    assert rounded_B.dtype == torch.float32
    # bfloat16 counts in steps of 4 at 1000
    torch.testing.assert_close(rounded_B - 1000, exact_B, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("gen", [True, False])
def test_learns_an_interaction_that_no_linear_model_can(gen: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    ids_BF = torch.randint(0, 2, (512, 2), generator=generator)
    labels_B = (ids_BF[:, 0] != ids_BF[:, 1]).float()
    model = DeepFm.create(_small(4, gen, width=8), (2, 2), seed=0)
    # Without the MLP, so that what is learned is the interaction of the FM term.
    with torch.no_grad():
        model.output.weight.zero_()
    model.output.weight.requires_grad_(requires_grad=False)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    for _ in range(100):
        loss = functional.binary_cross_entropy_with_logits(model(ids_BF), labels_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1  # linear terms alone stay at log 2 = 0.69
