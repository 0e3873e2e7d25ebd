"""Which attention kernel serves on which device."""

import importlib.util
import logging
from typing import Any

import torch

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.models.packed_layout import PackedLayout

logger = logging.getLogger(__name__)

FLASH_CAPABILITY = (8, 0)
FLASH_DEVICES = "Ampere or newer (A100, A10, RTX 30 series, L4, L40, RTX 40 series, H100, H200)"


class KernelError(RefusedError, ValueError):
    """The attention kernel asked for cannot run here."""


def resolve_kernel(
    requested: str, device: torch.device, precision: str, config: Any | None = None
) -> str:
    """Check the attention kernel asked for, or pick the best one that works.

    Args:
        requested: `auto`, `flash_attention_2`, `sdpa` or `flex_attention`.
        device: Where the model will train.
        precision: In which of Lightning's precisions: `32-true`, `bf16-mixed`, `16-mixed`.
        config: What has the language model's attention heads, by transformers' names; None where
            they are not known yet.

    Returns:
        A key of `shared_prefix.KERNELS`.

    Raises:
        KernelError: The kernel cannot run on this device, in this precision or with these heads,
            or its package is missing.
    """
    obstacle = failure = None
    if requested in {"auto", "flash_attention_2"}:
        obstacle = _flash_obstacle(device, precision)
        failure = None if obstacle else _flash_failure(device, precision, config)
    elif requested == "flex_attention" and device.type != "cuda":
        obstacle = "flex_attention trains on CUDA devices alone: it has no backward pass elsewhere"
    if requested == "auto":
        kernel = "sdpa" if obstacle or failure else "flash_attention_2"
        why = f"; {failure}" if failure else ""
        level = logging.WARNING if failure else logging.INFO
        logger.log(level, "Attention kernel: %s (picked for %s%s)", kernel, device, why)
        return kernel
    if obstacle or failure:
        raise KernelError(f"{obstacle or failure}; or set llm.attention to auto or sdpa")
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


def _flash_failure(device: torch.device, precision: str, config: Any | None) -> str | None:
    """Try FlashAttention on the device: why it fails, and what would serve; None if it works.

    That its package is there says little: it may be built for another PyTorch or other GPUs, and
    it serves not all sizes of heads.
    """
    from llm_ctr_pipeline.models.shared_prefix import KERNELS

    heads: int = getattr(config, "num_attention_heads", 1)
    key_heads: int = getattr(config, "num_key_value_heads", None) or heads
    width: int = getattr(config, "hidden_size", 64)
    channels: int = getattr(config, "head_dim", None) or width // heads
    layout = PackedLayout(prompt_length=1, row_length=2, rows=2)
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    try:
        query, key, value = (
            torch.zeros(
                (1, count, layout.packed_length, channels),
                device=device,
                dtype=dtype,
                requires_grad=True,
            )
            for count in (heads, key_heads, key_heads)
        )
        attended = KERNELS["flash_attention_2"](query, key, value, 1.0, layout)
        torch.autograd.grad(attended.sum(), (query, key, value))
        torch.cuda.synchronize(device)  # a kernel's failure is told late
    except Exception as error:  # whatever a package that does not fit here may raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return (
            f"flash_attention_2 failed on {device} with heads of {channels} channels ({reason}): "
            "install a flash-attn that is built for this PyTorch and GPU"
        )
    return None
