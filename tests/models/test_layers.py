import doctest

import pytest
import torch
from torch import Tensor, nn

from llm_ctr_pipeline.models import layers
from llm_ctr_pipeline.models.layers import (
    FieldEmbedding,
    FieldLinear,
    GenEncoder,
    Mlp,
    Projector,
    RowDropout,
)


@pytest.mark.parametrize(
    "layer", [FieldEmbedding, GenEncoder, FieldLinear, Projector, RowDropout, Mlp]
)
def test_every_layers_example_runs(layer: type[nn.Module]) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(layer, globs=vars(layers).copy())
    assert doctest.DocTestRunner().run(example) == doctest.TestResults(0, len(example.examples))
    assert example.examples


def test_every_field_has_its_own_rows_of_the_one_table() -> None:
    embedding = FieldEmbedding((2, 3, 4), embedding_dim=2, init_std=0.01)
    embedding.table.weight.data = torch.arange(9.0)[:, None].expand(9, 2).clone()
    ids_BF = torch.tensor([[0, 0, 0], [1, 2, 3]], dtype=torch.int32)
    assert embedding(ids_BF)[:, :, 0].tolist() == [[0, 2, 5], [1, 4, 8]]
    assert set(embedding.state_dict()) == {"table.weight"}


def test_the_embedding_starts_with_the_standard_deviation_asked_for() -> None:
    torch.manual_seed(0)
    embedding = FieldEmbedding((3000, 2000), embedding_dim=16, init_std=0.01)
    assert embedding.table.weight.std().item() == pytest.approx(0.01, rel=0.02)


def test_gen_is_gamma_times_relu_of_one_matrix_over_all_fields() -> None:
    gen = GenEncoder(num_fields=3, embedding_dim=2, gamma=6.0)
    embedded_BFD = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    (weight,) = gen.parameters()
    assert weight.shape == (6, 6)
    expected = 6.0 * (embedded_BFD.reshape(4, 6) @ weight.T).clamp(min=0).reshape(4, 3, 2)
    torch.testing.assert_close(gen(embedded_BFD), expected)


def test_the_projector_treats_every_field_alike() -> None:
    projector = Projector(3, 2, 8, 32)
    features_BFD = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    tokens_BFH = projector(features_BFD)
    assert tokens_BFH.shape == (4, 3, 32)
    torch.testing.assert_close(projector(features_BFD[:, [2, 0, 1]]), tokens_BFH[:, [2, 0, 1]])
    first, gelu, second, layer_norm = projector.layers
    expected = layer_norm(second(gelu(first(features_BFD))))
    torch.testing.assert_close(tokens_BFH, expected)
    assert isinstance(gelu, nn.GELU)
    assert tokens_BFH.mean(dim=-1).abs().max() < 1e-5


def test_dropout_drops_in_training_alone() -> None:
    torch.manual_seed(0)
    mlp = Mlp(4, (64, 64), dropout=0.5)
    inputs_BI = torch.randn(8, 4)
    assert not torch.equal(mlp(inputs_BI), mlp(inputs_BI))
    mlp.eval()
    assert torch.equal(mlp(inputs_BI), mlp(inputs_BI))
    assert len([*mlp.layers]) == 6
    assert len([*Mlp(4, (64, 64), dropout=0.0).layers]) == 4


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_projector_of_its_own_for_each_field_is_one_after_the_other() -> None:
    torch.manual_seed(0)
    projector = Projector(3, 2, 8, 32, per_field=True)
    features_BFI = draw(4, 3, 2).requires_grad_()
    first, gelu, second, norm = projector.layers
    alone = []
    for field in range(3):
        layers = [nn.Linear(2, 8), nn.Linear(8, 32)]
        for layer, grouped in zip(layers, (first, second), strict=True):
            layer.weight.data = grouped.weight[field].T.detach().clone()
            layer.bias.data = grouped.bias[field].detach().clone()
        alone.append(nn.Sequential(layers[0], gelu, layers[1], norm))
    expected = torch.stack([one(features_BFI[:, f]) for f, one in enumerate(alone)], dim=1)
    found = projector(features_BFI)
    torch.testing.assert_close(found, expected)
    toward = draw(4, 3, 32)
    gradients = torch.autograd.grad(found, [features_BFI, first.weight, second.bias], toward)
    (expected * toward).sum().backward()
    of_weights = torch.stack([one[0].weight.grad.T for one in alone])
    of_biases = torch.stack([one[2].bias.grad for one in alone])
    for one, other in zip(gradients, (features_BFI.grad, of_weights, of_biases), strict=True):
        torch.testing.assert_close(one, other)


def test_each_fields_layer_starts_as_a_linear_layer_does() -> None:
    torch.manual_seed(0)
    grouped, alone = FieldLinear(6, 16, 400), nn.Linear(16, 2400)
    for one, other in ((grouped.weight, alone.weight), (grouped.bias, alone.bias)):
        assert one.abs().max().item() == pytest.approx(0.25, rel=0.02)
        assert one.std().item() == pytest.approx(other.std().item(), rel=0.03)
    assert not torch.equal(grouped.weight[0], grouped.weight[1])


def test_a_fields_vector_is_added_behind_the_norm_and_starts_at_nothing() -> None:
    torch.manual_seed(0)
    plain = Projector(3, 2, 8, 32)
    torch.manual_seed(0)
    projector = Projector(3, 2, 8, 32, vectors=True)
    assert projector.vectors is not None
    features_BFI = draw(4, 3, 2)
    assert torch.equal(projector(features_BFI), plain(features_BFI))
    vectors_FH = draw(3, 32)
    projector.vectors.weight.data.copy_(vectors_FH)
    torch.testing.assert_close(projector(features_BFI), plain(features_BFI) + vectors_FH)


def test_a_share_of_whole_tokens_is_dropped_and_their_vectors_stay() -> None:
    torch.manual_seed(0)
    projector = Projector(3, 2, 8, 32, vectors=True, token_dropout=0.25)
    assert projector.vectors is not None
    projector.vectors.weight.data.copy_(draw(3, 32))
    features_BFI = draw(2000, 3, 2)
    tokens_BFH = projector(features_BFI) - projector.vectors.weight
    whole_BFH = projector.eval()(features_BFI) - projector.vectors.weight
    dropped_BF = tokens_BFH.abs().amax(dim=2) < 1e-6
    assert dropped_BF.float().mean(dim=0).tolist() == pytest.approx([0.25] * 3, abs=0.04)
    # The others are larger by what makes their mean the same.
    torch.testing.assert_close(tokens_BFH[~dropped_BF], whole_BFH[~dropped_BF] / 0.75)


def test_the_projectors_dropout_is_of_its_layer_between() -> None:
    torch.manual_seed(0)
    projector = Projector(3, 2, 400, 32, dropout=0.25)
    features_BFI, kept = draw(50, 3, 2), projector.layers[2]
    assert isinstance(kept, RowDropout)
    kept.draw(50, torch.device("cpu"))
    kept.take(0, 50)
    assert kept.drawn is not None
    assert 1 - kept.drawn.float().mean().item() == pytest.approx(0.25, abs=0.01)
    first, gelu, _, second, norm = projector.layers
    expected = norm(second(gelu(first(features_BFI)) * kept.drawn / 0.75))
    torch.testing.assert_close(projector(features_BFI), expected)
    whole = norm(second(gelu(first(features_BFI))))
    torch.testing.assert_close(projector.eval()(features_BFI), whole)


def test_dropout_leaves_the_mean_as_it_is() -> None:
    torch.manual_seed(0)
    dropped = RowDropout(0.3, (5, 4))(torch.ones(20_000, 5, 4))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    torch.testing.assert_close(dropped.mean(dim=0), torch.ones(5, 4), rtol=0, atol=0.03)
