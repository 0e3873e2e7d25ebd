"""Weights of which each rank holds a part (FSDP2), and the same weights whole."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from lightning.fabric.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from llm_ctr_pipeline.models.last_layer import decoder_layers
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.training.ranks.group import ranks

logger = logging.getLogger(__name__)


def resolve_strategy(requested: str, model: nn.Module) -> str:
    """How the ranks share a model: `ddp` or `fsdp`; alone in a group `none`."""
    if ranks().count == 1:
        return "none"
    if requested == "fsdp" and any(weight.ndim == 0 for weight in model.parameters()):
        logger.warning(
            "training.strategy is fsdp, which shares out no weight that is a single number, as "
            "%s has one: trained as ddp",
            type(model).__name__,
        )
        return "ddp"
    return "ddp" if requested == "auto" else requested


def sharding(precision: str) -> ModelParallelStrategy:
    """What shares out a model's weights, gradients and moments when Fabric sets it up.

    Whole on a rank are one decoder layer's weights at a time, and those outside of the layers.

    Args:
        precision: One of Lightning's but for `16-mixed`.
    """
    # By autocast alone a copy of every layer in bfloat16 would stay from forward to backward.
    halved = torch.bfloat16 if precision == "bf16-mixed" else None
    of_layers = MixedPrecisionPolicy(halved, torch.float32, cast_forward_inputs=False)

    def shard(model: nn.Module, mesh: DeviceMesh) -> nn.Module:
        mesh = mesh["data_parallel"]
        for decoder in [module for module in model.modules() if isinstance(module, LlmDecoder)]:
            for layer in decoder_layers(decoder.backbone):
                fully_shard(layer, mesh=mesh, mp_policy=of_layers)
        fully_shard(model, mesh=mesh, reshard_after_forward=True)
        return model

    return ModelParallelStrategy(shard, data_parallel_size=ranks().count, tensor_parallel_size=1)


def exchange_weights(
    optimizer: torch.optim.Optimizer, before: Iterable[Tensor], now: Iterable[Tensor]
) -> None:
    """Give an optimiser that took no step yet other weights in place of those it was made of."""
    of_before = dict(zip(map(id, before), now, strict=True))
    for group in optimizer.param_groups:
        group["params"] = [of_before[id(weight)] for weight in group["params"]]


def whole(state: Any) -> Any:
    """A state, with whole tensors on the CPU in place of those of which each rank has a part.

    All ranks must call it; the leader alone gets the whole ones, the others None.
    """
    if isinstance(state, dict):
        return {name: whole(value) for name, value in state.items()}
    if isinstance(state, DTensor):
        gathered: Tensor = state.full_tensor().detach()
        return gathered.cpu() if ranks().leads else None
    return state


def as_held(tensor: Tensor, held: Tensor) -> Tensor:
    """A whole tensor, or this rank's part of it where that is what it holds of another."""
    if not isinstance(held, DTensor) or tensor.shape != held.shape:
        return tensor
    on_device = tensor.detach().to(held.device)
    # Without a source: each rank cuts its part out of what it has.
    return distribute_tensor(on_device, held.device_mesh, held.placements, src_data_rank=None)


def held_part(tensor: Tensor) -> Tensor:
    """What this rank has of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
