import pytest
import torch
from torch.nn import functional

from llm_ctr_pipeline.models.baselines.dcnv2 import CrossNetwork, DcnV2
from tests.baselines import describe, move_weights


def by_loops(cross: CrossNetwork, inputs: list[float]) -> list[float]:
    """x_{l+1},i = x_0,i · (Σ_j W_l,ij · x_l,j + b_l,i) + x_l,i, one number at a time."""
    crossed = inputs
    for layer in cross.layers:
        rows, biases = layer.weight.tolist(), layer.bias.tolist()
        crossed = [
            inputs[i] * (sum(w * x for w, x in zip(rows[i], crossed, strict=True)) + biases[i])
            + crossed[i]
            for i in range(len(inputs))
        ]
    return crossed


def test_a_cross_layer_by_hand() -> None:
    """x_0 = (2, 3), W = ((1, 1), (0, 2)), b = (0.5, 0): W·x_0 + b = (5.5, 6), x_1 = (13, 21)."""
    cross = CrossNetwork(width=2, layers=1)
    weight, bias = torch.tensor([[1.0, 1], [0, 2]]), torch.tensor([0.5, 0])
    cross.load_state_dict({"layers.0.weight": weight, "layers.0.bias": bias})
    assert cross(torch.tensor([[2.0, 3]])).tolist() == [[13.0, 21]]


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_cross_layers_equal_the_sums_one_number_at_a_time(layers: int) -> None:
    cross = CrossNetwork(width=5, layers=layers).double()
    move_weights(cross)
    inputs_BI = torch.randn(7, 5, dtype=torch.float64)
    expected = torch.tensor([by_loops(cross, row) for row in inputs_BI.tolist()]).double()
    torch.testing.assert_close(cross(inputs_BI), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("structure", ["parallel", "stacked"])
def test_the_structures_by_their_parts(structure: str) -> None:
    model = describe("dcnv2", structure=structure).build()
    assert isinstance(model, DcnV2)
    move_weights(model)
    ids_BF = torch.tensor([[0, 1, 2], [2, 4, 3]])
    embedded_BI = model.embedding(ids_BF).flatten(1)
    for row, embedded in zip(model(ids_BF).tolist(), embedded_BI, strict=True):
        crossed = torch.tensor(by_loops(model.cross, embedded.tolist()))
        if structure == "parallel":
            features = torch.cat([crossed, model.mlp(embedded)])
        else:
            features = model.mlp(crossed)
        (weights,) = model.output.weight.tolist()
        by_hand = sum(w * x for w, x in zip(weights, features.tolist(), strict=True))
        assert row == pytest.approx(by_hand + model.output.bias.item(), rel=1e-4)


def test_cross_layers_learn_an_interaction_that_no_linear_model_can() -> None:
    generator = torch.Generator().manual_seed(0)
    ids_BF = torch.randint(0, 2, (512, 2), generator=generator)
    labels_B = (ids_BF[:, 0] != ids_BF[:, 1]).float()
    torch.manual_seed(0)
    model = describe("dcnv2", field_sizes=(2, 2)).build()
    assert isinstance(model, DcnV2)
    # Without the MLP, so that what is learned is the crosses'.
    with torch.no_grad():
        model.output.weight[:, 8:] = 0
    model.mlp.requires_grad_(requires_grad=False)
    optimizer = torch.optim.Adam([*model.embedding.parameters(), *model.cross.parameters()], 0.05)
    for _ in range(100):
        loss = functional.binary_cross_entropy_with_logits(model(ids_BF), labels_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1  # linear terms alone stay at log 2 = 0.69
