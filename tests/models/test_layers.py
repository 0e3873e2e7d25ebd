import doctest

import pytest
import torch
from torch import nn

from llm_ctr_pipeline.models import layers
from llm_ctr_pipeline.models.layers import FieldEmbedding, GenEncoder, Mlp, Projector


@pytest.mark.parametrize("layer", [FieldEmbedding, GenEncoder, Projector, Mlp])
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
