"""Which attention kernel serves on which device."""

import importlib.util
import logging

import torch

from llm_ctr_pipeline.data.errors import RefusedError

logger = logging.getLogger(__name__)

FLASH_CAPABILITY = (8, 0)
FLASH_DEVICES = "Ampere or newer (A100, A10, RTX 30 series, L4, L40, RTX 40 series, H100, H200)"


class KernelError(RefusedError, ValueError):
    """The attention kernel asked for cannot run here."""


def resolve_kernel(requested: str, device: torch.device, precision: str) -> str:
    """Check the attention kernel asked for, or pick the best one that works.

    Args:
        requested: `auto`, `flash_attention_2`, `sdpa` or `flex_attention`.
        device: Where the model will train.
        precision: In which of Lightning's precisions: `32-true`, `bf16-mixed`, `16-mixed`.

    Returns:
        A key of `shared_prefix.KERNELS`.

    Raises:
        KernelError: The kernel cannot run on this device or in this precision, or its package is
            missing.
    """
    if requested == "auto":
        kernel = "sdpa" if _flash_obstacle(device, precision) else "flash_attention_2"
        logger.info("Attention kernel: %s (picked for %s)", kernel, device)
        return kernel
    obstacle = None
    if requested == "flash_attention_2":
        obstacle = _flash_obstacle(device, precision)
    elif requested == "flex_attention" and device.type != "cuda":
        obstacle = "flex_attention trains on CUDA devices alone: it has no backward pass elsewhere"
    if obstacle:
        raise KernelError(f"{obstacle}; or set llm.attention to auto or sdpa")
    logger.info("Attention kernel: %s", requested)
    return requested


def _flash_obstacle(device: torch.device, precision: str) -> str | None:
    """Why FlashAttention cannot run, and what would serve; None if it can."""
    if device.type != "cuda":
        return (
            f"flash_attention_2 needs a CUDA GPU, {FLASH_DEVICES}, and the device is {device}: "
            "set training.device to a GPU"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < FLASH_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return (
            f"flash_attention_2 needs a GPU of compute capability 8.0, {FLASH_DEVICES}, and "
            f"{device} is a {name} of {capability[0]}.{capability[1]}"
        )
    if importlib.util.find_spec("flash_attn") is None:
        return (
            "flash_attention_2 needs the package flash-attn, which is not installed: "
            'run `pip install -c constraints.txt -e ".[flash]" --no-build-isolation`'
        )
    if precision == "32-true":
        return (
            "flash_attention_2 computes in bfloat16 or float16, and training.precision is "
            "32-true: set it to auto"
        )
    return None
