import importlib.machinery
import importlib.util
import logging

import pytest
import torch

from llm_ctr_pipeline.models.kernels import KernelError, resolve_kernel
from llm_ctr_pipeline.models.shared_prefix import KERNELS

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)
PRECISION = "bf16-mixed"


@pytest.fixture(params=[(8, 0), (9, 0)])
def new_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, request.param)


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_gpu(monkeypatch, (7, 5))


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla T4")


def pretend_flash_attn(monkeypatch: pytest.MonkeyPatch, *, installed: bool) -> None:
    found = importlib.machinery.ModuleSpec("flash_attn", None) if installed else None
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: found if name == "flash_attn" else original(name, package),
    )


@pytest.mark.parametrize("installed", [True, False])
def test_on_a_cpu_auto_is_sdpa_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, installed: bool
) -> None:
    pretend_flash_attn(monkeypatch, installed=installed)
    with caplog.at_level(logging.INFO):
        assert resolve_kernel("auto", CPU, PRECISION) == "sdpa"
    assert caplog.messages == ["Attention kernel: sdpa (picked for cpu)"]


@pytest.mark.usefixtures("new_gpu")
@pytest.mark.parametrize(("installed", "kernel"), [(True, "flash_attention_2"), (False, "sdpa")])
def test_on_a_new_gpu_auto_is_flash_attention_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    installed: bool,
    kernel: str,
) -> None:
    pretend_flash_attn(monkeypatch, installed=installed)
    with caplog.at_level(logging.INFO):
        assert resolve_kernel("auto", CUDA, PRECISION) == kernel
    assert caplog.messages == [f"Attention kernel: {kernel} (picked for cuda:1)"]


@pytest.mark.usefixtures("old_gpu")
def test_on_an_old_gpu_auto_is_sdpa(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_flash_attn(monkeypatch, installed=True)
    assert resolve_kernel("auto", CUDA, PRECISION) == "sdpa"


def test_flash_attention_on_a_cpu_is_refused() -> None:
    with pytest.raises(KernelError) as raised:
        resolve_kernel("flash_attention_2", CPU, PRECISION)
    message = str(raised.value)
    assert "needs a CUDA GPU, Ampere or newer" in message
    assert "the device is cpu" in message
    assert message.endswith("set training.device to a GPU; or set llm.attention to auto or sdpa")


@pytest.mark.usefixtures("old_gpu")
def test_flash_attention_on_an_old_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_flash_attn(monkeypatch, installed=True)
    message = r"capability 8\.0, Ampere .* cuda:1 is a Tesla T4 of 7\.5; or set llm\.attention to"
    with pytest.raises(KernelError, match=message):
        resolve_kernel("flash_attention_2", CUDA, PRECISION)


@pytest.mark.usefixtures("new_gpu")
def test_flash_attention_without_its_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_flash_attn(monkeypatch, installed=False)
    with pytest.raises(
        KernelError, match=r"not installed: run `pip install .*\[flash\].*auto or sd"
    ):
        resolve_kernel("flash_attention_2", CUDA, PRECISION)


def test_flex_attention_is_for_cuda() -> None:
    with pytest.raises(KernelError, match=r"CUDA devices alone: .*; or set llm\.attention to auto"):
        resolve_kernel("flex_attention", CPU, PRECISION)


@pytest.mark.usefixtures("new_gpu")
@pytest.mark.parametrize("kernel", ["sdpa", "flex_attention", "flash_attention_2"])
def test_on_a_new_gpu_every_kernel_is_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    pretend_flash_attn(monkeypatch, installed=True)
    assert resolve_kernel(kernel, CUDA, PRECISION) == kernel
    assert kernel in KERNELS


@pytest.mark.usefixtures("new_gpu")
def test_flash_attention_in_float32_is_refused_and_not_picked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_flash_attn(monkeypatch, installed=True)
    with pytest.raises(
        KernelError, match=r"training\.precision is 32-true: set it to auto; or set"
    ):
        resolve_kernel("flash_attention_2", CUDA, "32-true")
    assert resolve_kernel("auto", CUDA, "32-true") == "sdpa"
