import math

import pytest
import torch
from pydantic import ValidationError

from llm_ctr_pipeline.models.baselines.finalmlp import BilinearFusion, FinalMlp, Gate
from tests.baselines import describe, move_weights

IDS_BF = torch.tensor([[0, 1, 2], [2, 4, 3], [1, 0, 0]])


def fused_by_loops(fusion: BilinearFusion, left: list[float], right: list[float]) -> float:
    """b + Σ u_k · x_k + Σ v_l · y_l + Σ_n Σ_k Σ_l x_nk · W_nkl · y_nl, one number at a time."""
    ((u,), (v,)) = fusion.left.weight.tolist(), fusion.right.weight.tolist()
    total = fusion.left.bias.item()
    total += sum(a * b for a, b in zip(u, left, strict=True))
    total += sum(a * b for a, b in zip(v, right, strict=True))
    heads, width, other = fusion.weight.shape
    for n in range(heads):
        for k in range(width):
            for m in range(other):
                weight = fusion.weight[n, k, m].item()
                total += left[n * width + k] * weight * right[n * other + m]
    return total


def test_the_fusion_by_hand() -> None:
    """Two heads of one number each: 0.25 + (1·2 + 0·3) + (−1·4 + 0·5) + 2·10·4 + 3·0.5·5."""
    fusion = BilinearFusion(left=2, right=2, heads=2)
    fusion.load_state_dict(
        {
            "left.weight": torch.tensor([[1.0, 0]]),
            "left.bias": torch.tensor([0.25]),
            "right.weight": torch.tensor([[-1.0, 0]]),
            "weight": torch.tensor([[[10.0]], [[0.5]]]),
        }
    )
    joined = fusion(torch.tensor([[2.0, 3]]), torch.tensor([[4.0, 5]])).tolist()
    assert joined == [0.25 + 2 - 4 + 80 + 7.5]


@pytest.mark.parametrize("heads", [1, 2, 6])
def test_the_fusion_equals_the_sums_one_number_at_a_time(heads: int) -> None:
    fusion = BilinearFusion(left=12, right=6, heads=heads).double()
    move_weights(fusion)
    left_BK = torch.randn(5, 12, dtype=torch.float64)
    right_BL = torch.randn(5, 6, dtype=torch.float64)
    expected = [
        fused_by_loops(fusion, left, right)
        for left, right in zip(left_BK.tolist(), right_BL.tolist(), strict=True)
    ]
    assert fusion(left_BK, right_BL).tolist() == pytest.approx(expected)


def test_a_gate_by_hand() -> None:
    """c = (1, −1), hidden = relu(3·1 + 1·(−1) − 1) = 1, logits (log 3, 0): weights 1.5 and 1."""
    gate = Gate(width=2, context_dim=2, hidden_sizes=(1,))
    gate.load_state_dict(
        {
            "context": torch.tensor([1.0, -1]),
            "mlp.layers.0.weight": torch.tensor([[3.0, 1]]),
            "mlp.layers.0.bias": torch.tensor([-1.0]),
            "output.weight": torch.tensor([[math.log(3)], [0.0]]),
            "output.bias": torch.tensor([0.0, 0.0]),
        }
    )
    inputs_BI = torch.tensor([[2.0, 4], [-6, 8]])
    torch.testing.assert_close(gate(inputs_BI), torch.tensor([[3.0, 4], [-9, 8]]))


@pytest.mark.parametrize("hidden_sizes", [(), (5,), (5, 3)])
def test_a_new_gate_lets_all_pass_and_learns(hidden_sizes: tuple[int, ...]) -> None:
    gate = Gate(width=6, context_dim=4, hidden_sizes=hidden_sizes)
    inputs_BI = torch.randn(3, 6)
    assert torch.equal(gate(inputs_BI), inputs_BI)
    gate(inputs_BI).square().sum().backward()
    assert gate.output.bias.grad is not None
    assert gate.output.bias.grad.all()


def test_the_model_by_its_parts() -> None:
    model = describe("finalmlp").build()
    assert isinstance(model, FinalMlp)
    move_weights(model)
    log_odds = model(IDS_BF).tolist()
    for found, embedded in zip(log_odds, model.embedding(IDS_BF).flatten(1), strict=True):
        first = model.mlp(model.gate(embedded[None]))[0]
        second = model.second_mlp(model.second_gate(embedded[None]))[0]
        by_hand = fused_by_loops(model.output, first.tolist(), second.tolist())
        assert found == pytest.approx(by_hand, rel=1e-4)


def test_heads_that_do_not_divide_the_streams_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"heads is 4, .* last widths, 6 and 9"):
        describe("finalmlp", heads=4)
