"""Devices and precision: what a setting means on this machine."""

from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import MixedPrecision
from torch import nn
from torch.amp import GradScaler

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.models.kernels import resolve_kernel
from llm_ctr_pipeline.training.freed_memory import keep_freed_memory

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


# Weights from which bfloat16 pays on a CPU; in smaller models the conversions cost more.
LARGE_MODEL = 10_000_000


class DeviceError(RefusedError, ValueError):
    """The device asked for is not there, or cannot do what is asked of it."""


def resolve_device(requested: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda` or `cuda:N` into a device that is there.

    Raises:
        DeviceError: It is not a device's name, or not there.
    """
    if requested == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(requested)
    except RuntimeError as error:
        raise DeviceError(
            f"training.device is {requested!r}: it must be auto, cpu, cuda or cuda:N"
        ) from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"training.device is {requested!r}: only cpu and cuda devices are served")
    if device.type == "cuda":
        present = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= present:
            raise DeviceError(
                f"training.device is {requested!r}, and this machine has {present} CUDA "
                "device(s): set it to auto, cpu or the number of a device that is there"
            )
        return torch.device("cuda", device.index or 0)
    return torch.device("cpu")


def resolve_precision(requested: str, device: torch.device, parameters: int = 0) -> str:
    """Pick mixed precision where the device gains by it.

    Args:
        requested: One of `PRECISIONS`.
        device: Where the model trains.
        parameters: Weights that take part in matrix products, as `count_weights` counts them.

    Returns:
        A precision of Lightning's: bfloat16 autocast over float32 weights on GPUs that have
        bfloat16, and for large models on CPUs that multiply in it; float16 with loss scaling on
        older GPUs; plain float32 elsewhere.

    Raises:
        DeviceError: The device cannot compute in the precision asked for.
    """
    if requested == "auto":
        if device.type == "cpu":
            gains = parameters >= LARGE_MODEL and multiplies_in_bfloat16()
            return "bf16-mixed" if gains else "32-true"
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
    if requested == "16-mixed" and device.type == "cpu":
        raise DeviceError(
            "training.precision is 16-mixed, which needs a CUDA device: set it to auto, 32-true "
            "or bf16-mixed"
        )
    return requested


def count_weights(model: nn.Module) -> int:
    """Weights of a model that take part in matrix products: those of tables are looked up."""
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    looked_up = {id(weight) for table in tables for weight in table.parameters()}
    return sum(weight.numel() for weight in model.parameters() if id(weight) not in looked_up)


def multiplies_in_bfloat16() -> bool:
    """Whether this machine's processor has instructions for products of bfloat16 matrices."""
    flags = next((line for line in _processor() if line.startswith("flags")), "").split()
    return bool({"avx512_bf16", "amx_bf16"} & set(flags))


def _processor() -> list[str]:
    """Linux's description of the processor, line by line."""
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def choose_kernel(attention: str, device: str, precision: str) -> str:
    """Pick the attention kernel for the device and precision that the settings come to.

    Args:
        attention: As `resolve_kernel` takes it.
        device: As `resolve_device` takes it.
        precision: As `resolve_precision` takes it.

    Raises:
        DeviceError: The device or the precision is not to be had.
        KernelError: The kernel cannot run with them.
    """
    resolved = resolve_device(device)
    return resolve_kernel(attention, resolved, resolve_precision(precision, resolved))


def limit_cpu_threads(threads: int | None) -> None:
    """Use so many CPU threads from now on; None leaves PyTorch's choice, all cores.

    One thread also makes results independent of how many cores a machine has.
    """
    if threads is not None:
        torch.set_num_threads(threads)


def make_fabric(
    device: str, precision: str, model: nn.Module
) -> tuple[Fabric, torch.device, GradScaler]:
    """Set up Lightning Fabric for one device.

    Args:
        device: As `resolve_device` takes it.
        precision: As `resolve_precision` takes it.
        model: What will run there.

    Returns:
        Fabric, its device, and what scales the loss: float16's gradients would vanish otherwise,
        in other precisions it does nothing.

    Raises:
        DeviceError: The device or the precision is not to be had.
    """
    resolved = resolve_device(device)
    if resolved.type == "cpu":
        keep_freed_memory()
    settled = resolve_precision(precision, resolved, count_weights(model))
    half = settled == "16-mixed"
    scaler = GradScaler(resolved.type, enabled=half)
    fabric = Fabric(
        accelerator=resolved.type,
        devices=1 if resolved.type == "cpu" else [resolved.index],
        # As Fabric makes it of the name, but with a scaler whose state can be kept.
        precision=None if half else settled,
        plugins=[MixedPrecision("16-mixed", resolved.type, scaler)] if half else None,
    )
    return fabric, resolved, scaler
