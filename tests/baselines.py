"""Small baselines of every kind, and their settings."""

import torch
from torch import nn

from llm_ctr_pipeline.models.baselines.description import BaselineDescription, describe_baseline
from llm_ctr_pipeline.models.settings import BaselineNetworkSettings, EncoderSettings

FIELD_SIZES = (3, 5, 4)
SHARED = EncoderSettings(embedding_dim=4, embedding_init_std=0.5, gen_gamma=6.0)
MLP = {"hidden_sizes": [8, 6], "dropout": 0.0, "batch_norm": False}
CROSSED = {"model": "dcnv2", "structure": "parallel", "cross_layers": 2, **MLP}
TWO_STREAMS = {
    **{"model": "finalmlp", **MLP, "second_hidden_sizes": [9], "second_dropout": 0.0},
    **{"second_batch_norm": False, "gating": True, "gate_hidden_sizes": [5], "heads": 3},
}
NETWORKS = {
    "deepfm": {"model": "deepfm", "gen": False, **MLP},
    "deepfm with gen": {"model": "deepfm", "gen": True, **MLP},
    "logistic_regression": {"model": "logistic_regression"},
    "dcnv2": CROSSED,
    "dcnv2 stacked": CROSSED | {"structure": "stacked"},
    "finalmlp": TWO_STREAMS,
    "finalmlp with linear gates": TWO_STREAMS | {"gate_hidden_sizes": []},
    "finalmlp without gates": TWO_STREAMS | {"gating": False},
}


def describe(
    name: str,
    field_sizes: tuple[int, ...] = FIELD_SIZES,
    shared: EncoderSettings = SHARED,
    **changes: object,
) -> BaselineDescription:
    """Describe one of `NETWORKS`, with changes of its own settings."""
    network = BaselineNetworkSettings.model_validate(NETWORKS[name] | changes)
    return describe_baseline(shared, network.root, field_sizes)


def move_weights(model: nn.Module, by: float = 0.3) -> None:
    """Move every weight off what it starts from, so that each one matters."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=generator))
