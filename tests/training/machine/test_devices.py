import os
import platform
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from llm_ctr_pipeline.training.machine import devices
from llm_ctr_pipeline.training.machine.devices import (
    LARGE_MODEL,
    DeviceError,
    count_weights,
    describe_device,
    make_fabric,
    resolve_device,
    resolve_precision,
)
from llm_ctr_pipeline.training.ranks import shards
from llm_ctr_pipeline.training.ranks.group import Ranks
from llm_ctr_pipeline.training.settings import Execution

CPU = torch.device("cpu")


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has so many GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)


@pytest.mark.parametrize(
    ("gpus", "requested", "device"),
    [
        (0, "auto", "cpu"),
        (0, "cpu", "cpu"),
        (2, "auto", "cuda:0"),
        (2, "cuda", "cuda:0"),
        (2, "cuda:1", "cuda:1"),
        (2, "cpu", "cpu"),
    ],
    indirect=["gpus"],
)
@pytest.mark.usefixtures("gpus")
def test_a_device_that_is_there(requested: str, device: str) -> None:
    assert resolve_device(requested) == torch.device(device)


@pytest.mark.parametrize(
    ("gpus", "requested", "message"),
    [
        (0, "cuda", r"is 'cuda', and this machine has 0 CUDA device\(s\): set it to auto, cpu or"),
        (2, "cuda:2", r"is 'cuda:2', and this machine has 2 CUDA"),
    ],
    indirect=["gpus"],
)
@pytest.mark.usefixtures("gpus")
def test_a_device_that_is_not_there_is_named(requested: str, message: str) -> None:
    with pytest.raises(DeviceError, match="training.device " + message):
        resolve_device(requested)


# Compute capabilities: cuda:0 is an A100, cuda:1 a T4, cuda:2 a V100, cuda:3 an RTX 4090.
CAPABILITIES = ((8, 0), (7, 5), (7, 0), (8, 9))


@pytest.fixture
def mixed_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has GPUs of several generations, of which the first is current."""

    def capability(device: torch.device | None = None) -> tuple[int, int]:
        return CAPABILITIES[(device.index if device else None) or 0]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    # What is_bf16_supported asks; and it makes a tensor to see whether bfloat16 is emulated.
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=CAPABILITIES[0][0])
    )


@pytest.mark.usefixtures("mixed_gpus")
@pytest.mark.parametrize(
    ("requested", "device", "precision"),
    [
        ("auto", "cpu", "32-true"),
        ("auto", "cuda:0", "bf16-mixed"),
        ("auto", "cuda:1", "16-mixed"),
        ("auto", "cuda:2", "16-mixed"),
        ("auto", "cuda:3", "bf16-mixed"),
        ("bf16-mixed", "cpu", "bf16-mixed"),
        ("bf16-mixed", "cuda:1", "bf16-mixed"),
        ("32-true", "cuda:0", "32-true"),
        ("16-mixed", "cuda:0", "16-mixed"),
    ],
)
def test_precision(requested: str, device: str, precision: str) -> None:
    assert resolve_precision(requested, torch.device(device)) == precision


@pytest.mark.usefixtures("mixed_gpus")
def test_amds_gpus_have_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert resolve_precision("auto", torch.device("cuda:1")) == "bf16-mixed"


@pytest.mark.usefixtures("mixed_gpus")
@pytest.mark.parametrize(("device", "warned"), [("cuda:0", False), ("cuda:1", True)])
def test_bfloat16_that_is_emulated_is_warned_of(
    make_execution: Callable[..., Execution],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    device: str,
    warned: bool,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    make_fabric(make_execution(device=device, precision="bf16-mixed"), nn.Linear(2, 2))
    assert ("cuda:1 (Tesla T4) emulates" in caplog.text) == warned


@pytest.mark.parametrize(
    ("flags", "weights", "precision"),
    [
        ("avx2 avx512_bf16", LARGE_MODEL, "bf16-mixed"),
        ("avx2 amx_bf16", LARGE_MODEL, "bf16-mixed"),
        ("avx2 avx512f", LARGE_MODEL, "32-true"),
        ("avx2 avx512_bf16", LARGE_MODEL - 1, "32-true"),
    ],
)
def test_a_large_model_on_a_cpu_with_bfloat16_takes_it(
    monkeypatch: pytest.MonkeyPatch, flags: str, weights: int, precision: str
) -> None:
    lines = ["model name : some", f"flags : fpu {flags}"]
    monkeypatch.setattr(devices, "_processor", lambda: lines)
    assert resolve_precision("auto", CPU, weights) == precision
    assert resolve_precision("32-true", CPU, weights) == "32-true"


def test_weights_that_are_looked_up_do_not_count() -> None:
    model = nn.Sequential(nn.Embedding(100, 3), nn.Linear(3, 5), nn.Linear(5, 1, bias=False))
    assert count_weights(model) == 3 * 5 + 5 + 5


def test_float16_on_a_cpu_is_refused() -> None:
    message = "is 16-mixed, which needs a CUDA device: set it to auto, 32-true or bf16-mixed"
    with pytest.raises(DeviceError, match=message):
        resolve_precision("16-mixed", CPU)


def test_fabric_is_set_up_for_what_was_resolved(make_execution: Callable[..., Execution]) -> None:
    model = nn.Linear(2, 2)
    fabric, scaler = make_fabric(make_execution(precision="bf16-mixed"), model)
    assert fabric.device == CPU
    with fabric.autocast():
        assert torch.is_autocast_enabled("cpu")
    assert not scaler.is_enabled()
    with make_fabric(make_execution(precision="auto"), model)[0].autocast():
        assert not torch.is_autocast_enabled("cpu")


def test_cpu_threads_are_set_or_left(make_execution: Callable[..., Execution]) -> None:
    before = torch.get_num_threads()
    try:
        for threads, expected in ((2, 2), (None, 2), (1, 1)):
            make_fabric(make_execution(cpu_threads=threads), nn.Linear(2, 2))
            assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


def test_what_the_process_has_one_of_is_set_each_time(
    make_execution: Callable[..., Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        for asked in ({"deterministic": True, "float32_matmul": "high"}, {}):
            make_fabric(make_execution(**asked), nn.Linear(2, 2))
            assert torch.are_deterministic_algorithms_enabled() == bool(asked)
            assert torch.get_float32_matmul_precision() == ("high" if asked else "highest")
            # Without it cuBLAS is refused on a GPU; nothing else asks for it.
            assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_gpu_is_told_with_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla T4")
    assert describe_device(torch.device("cuda:1")) == "cuda:1 (Tesla T4)"
    assert describe_device(CPU) == "cpu"


SCRIPT = """
import resource
import torch
from llm_ctr_pipeline.training.machine.devices import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(10_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
assert keep_freed_memory()
# Where blocks come to lie takes some rounds to settle.
print(first, min(faults() for _ in range(6)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_a_freed_tensors_memory_serves_the_next_one() -> None:
    # In a process of its own: the setting is the whole process's.
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=120
    )
    before, after = map(int, done.stdout.split())
    # 5 × 40 MB in pages of 4 KB; larger pages, where the system uses them, are fewer
    assert before > 50
    assert after < before / 10


@pytest.mark.parametrize(
    ("requested", "gpus", "device"),
    [("auto", 4, "cuda:3"), ("cuda", 4, "cuda:3"), ("auto", 0, "cpu"), ("cpu", 4, "cpu")],
)
def test_each_process_of_a_machine_takes_the_gpu_of_its_number(
    monkeypatch: pytest.MonkeyPatch, requested: str, gpus: int, device: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(devices, "ranks", lambda: Ranks(7, 8, local_index=3, local_count=4))
    assert resolve_device(requested) == torch.device(device)


@pytest.mark.parametrize(("requested", "gpus"), [("cuda:1", 4), ("auto", 2), ("cuda", 0)])
def test_several_processes_share_no_gpu(
    monkeypatch: pytest.MonkeyPatch, requested: str, gpus: int
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(devices, "ranks", lambda: Ranks(1, 4, local_index=1, local_count=4))
    with pytest.raises(DeviceError, match=f"4 processes run on this machine, which has {gpus} "):
        resolve_device(requested)


def test_weights_in_parts_have_no_loss_scaling(
    make_execution: Callable[..., Execution], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for module in (devices, shards):
        monkeypatch.setattr(module, "ranks", lambda: Ranks(0, 2, local_count=2))
    execution = make_execution(device="auto", precision="16-mixed", strategy="fsdp")
    with pytest.raises(DeviceError, match=r"fsdp.* set training\.precision to bf16-mixed or"):
        make_fabric(execution, nn.Linear(2, 2), trains=True)
