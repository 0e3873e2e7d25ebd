"""A GPU's devices, dtypes and layouts on a machine without one: CUDA tensors without data.

PyTorch's `FakeTensorMode` computes what each operation would return, raises where devices or dtypes
do not fit together, and where the host would have to read a value off the device. Autograd's own
engine refuses CUDA tensors in builds for CPUs, so a plain one stands in for it.
"""

import contextlib
import copy
import ctypes
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.autograd.graph import get_gradient_edge
from torch.utils._python_dispatch import TorchDispatchMode

from llm_ctr_pipeline.training import step as training_step

CUDA = torch.device("cuda", 0)
# Of c10's enumeration of devices.
CUDA_TYPE, META_TYPE = 1, 14


class TransferError(AssertionError):
    """A tensor goes from one device to another within a step, which makes the host wait."""


class NoTransfers(TorchDispatchMode):
    """Raises for what copies between devices."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}:
            source = args[-1] if func is torch.ops.aten.copy_.default else args[0]
            if isinstance(source, Tensor) and source.device != result.device:
                raise TransferError(f"{func} from {source.device} to {result.device}")
        return result


def run_backward(
    outputs: tuple[Tensor, ...],
    gradients: tuple[Tensor, ...],
    *_: object,
    inputs: tuple[Tensor, ...] = (),
    accumulate_grad: bool = True,
    **__: object,
) -> tuple[Tensor | None, ...]:
    """Do what autograd's engine does: visit each node when all of its gradients are there."""
    roots = [get_gradient_edge(output) for output in outputs]
    wanted = {
        (edge.node, edge.output_nr): n for n, edge in enumerate(map(get_gradient_edge, inputs))
    }
    found: list[Tensor | None] = [None] * len(inputs)
    waits, seen, todo = Counter[Any](), set(), [root.node for root in roots]
    while todo:
        if (node := todo.pop()) not in seen:
            seen.add(node)
            following = [edge[0] for edge in node.next_functions if edge[0] is not None]
            waits.update(following)
            todo += following
    sums: dict[Any, dict[int, Tensor]] = defaultdict(dict)

    def add(node: Any, number: int, gradient: Tensor) -> None:
        expected = node._input_metadata[number]
        assert gradient.device == expected.device, node
        gradient = gradient.to(expected.dtype).sum_to_size(expected.shape)
        before = sums[node].get(number)
        sums[node][number] = gradient if before is None else before + gradient

    for root, gradient in zip(roots, gradients, strict=True):
        add(root.node, root.output_nr, gradient)
    ready = [node for node in {root.node for root in roots} if not waits[node]]
    while ready:
        node = ready.pop()
        arrived = sums.pop(node, {})
        for number, gradient in arrived.items():
            if (node, number) in wanted:
                found[wanted[node, number]] = gradient
        if "AccumulateGrad" in node.name() and not accumulate_grad:
            continue
        passed: Any = (None,) * len(node.next_functions)
        if arrived:
            apply = getattr(node, "apply", node)  # a Python function's node, or one of C++
            passed = apply(*(arrived.get(n) for n in range(len(node._input_metadata))))
            passed = passed if isinstance(passed, tuple | list) else (passed,)
        for (following, number), gradient in zip(node.next_functions, passed, strict=False):
            if following is not None:
                if gradient is not None:
                    add(following, number, gradient)
                waits[following] -= 1
                if not waits[following]:
                    ready.append(following)
    return tuple(found)


def engine(*args: Any, **kwargs: Any) -> tuple[Tensor | None, ...]:
    """Call `run_backward` as one backward pass, in which layers are computed again but once."""
    with torch.no_grad(), mock.patch.object(torch._C, "_current_graph_task_id", lambda: 0):
        return run_backward(*args, **kwargs)


def on_fake_cuda(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Copy a model to a GPU: its parameters and buffers, as `Module.to` does, and nothing else."""
    with FakeCopyMode(mode):
        model = copy.deepcopy(model)
    moved: dict[int, nn.Parameter] = {}
    with mode:
        for module in model.modules():
            for name, weight in module._parameters.items():
                if weight is not None:
                    if id(weight) not in moved:
                        on_device = weight.detach().to(CUDA)
                        moved[id(weight)] = nn.Parameter(on_device, weight.requires_grad)
                    module._parameters[name] = moved[id(weight)]
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else buffer.to(CUDA)
    return model


def _make_fabric(make: Callable[..., Any]) -> Callable[..., Any]:
    """Make Fabric as on a machine with a GPU; only while it is made is there said to be one."""

    def made(*args: Any) -> Any:
        there = {"is_available": lambda: True, "device_count": lambda: 1}
        able = {"get_device_capability": lambda *_: (8, 0), "get_device_name": lambda *_: "A100"}
        with mock.patch.multiple(torch.cuda, **there, **able):
            return make(*args)

    return made


@contextlib.contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Let a `TrainingStep` run on a GPU that is not there."""
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * 32).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    before = guards[CUDA_TYPE]
    guards[CUDA_TYPE] = guards[META_TYPE]  # which does nothing
    nothing = {"setup_device": lambda *_: None}
    try:
        with (
            mock.patch("torch.autograd._engine_run_backward", engine),
            mock.patch("torch.cuda.is_bf16_supported", lambda *_, **__: True),
            mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),
            mock.patch.multiple("lightning.fabric.accelerators.CUDAAccelerator", **nothing),
            mock.patch("lightning.fabric.strategies.SingleDeviceStrategy.module_to_device"),
            mock.patch.object(
                training_step, "make_fabric", _make_fabric(training_step.make_fabric)
            ),
            mock.patch.object(training_step, "random_states", lambda _: []),
            mock.patch.object(training_step, "set_random_states"),
        ):
            yield FakeTensorMode(allow_non_fake_inputs=False)
    finally:
        guards[CUDA_TYPE] = before
