import logging
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import GPT2Config, Qwen3Config

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


class OnCpu(TorchFunctionMode):
    """Makes tensors on the CPU, whatever device they are asked for on."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        options = kwargs or {}
        return func(*args, **(options | ({"device": CPU} if "device" in options else {})))


@pytest.fixture(autouse=True)
def tensors_on_the_cpu(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Let kernels be tried on GPUs that are not there."""
    if "gpu" in request.keywords:
        yield
        return
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)
    with OnCpu():
        yield


def pretend_gpu(monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Tesla T4")


def flash_attn_func(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """As the package's: heads behind tokens, up to 256 channels, in half precision."""
    assert options["causal"]
    if query.dtype not in {torch.float16, torch.bfloat16}:
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    if query.shape[-1] > 256:
        raise RuntimeError("FlashAttention forward only supports head dimension at most 256")
    if query.shape[2] % key.shape[2] != 0:
        raise RuntimeError("Number of heads in key/value must divide number of heads in query")
    return query + key.sum() + value.sum()


def pretend_flash_attn(monkeypatch: pytest.MonkeyPatch, *, installed: bool) -> None:
    package = ModuleType("flash_attn")
    package.__spec__ = ModuleSpec("flash_attn", None)
    package.flash_attn_func = flash_attn_func  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn", package if installed else None)  # type: ignore[arg-type]


@pytest.mark.parametrize("installed", [True, False])
def test_on_a_cpu_auto_is_sdpa_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, installed: bool
) -> None:
    pretend_flash_attn(monkeypatch, installed=installed)
    with caplog.at_level(logging.INFO, logger=resolve_kernel.__module__):
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
    with caplog.at_level(logging.INFO, logger=resolve_kernel.__module__):
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


@pytest.mark.usefixtures("new_gpu")
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import lacking", "No module named 'lacking'"),
        ("raise ImportError('flash_attn_2_cuda.so: undefined symbol: _ZN3c1')", "undefined symbol"),
        ("raise OSError('libcudart.so.12: cannot open shared object')", "libcudart"),
        ("def nothing(): pass", "cannot import name 'flash_attn_func'"),
        (
            "def flash_attn_func(*_, **__):\n"
            "    raise RuntimeError('CUDA error: no kernel image is available\\nand more')",
            "no kernel image is available):",
        ),
    ],
    ids=["lacks", "symbol", "library", "other", "image"],
)
def test_a_flash_attn_that_does_not_run_is_passed_over_or_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    code: str,
    reason: str,
) -> None:
    (tmp_path / "flash_attn.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    with caplog.at_level(logging.WARNING):  # conf/logging.yml shows no less of this
        assert resolve_kernel("auto", CUDA, PRECISION) == "sdpa"
    (line,) = caplog.messages
    assert line.startswith("Attention kernel: sdpa (picked for cuda:1; flash_attention_2 failed")
    monkeypatch.delitem(sys.modules, "flash_attn", raising=False)
    with pytest.raises(KernelError) as raised:
        resolve_kernel("flash_attention_2", CUDA, PRECISION)
    for text in (line, str(raised.value)):
        assert reason in text
        assert "\n" not in text
    assert str(raised.value).endswith("PyTorch and GPU; or set llm.attention to auto or sdpa")


@pytest.mark.usefixtures("new_gpu")
def test_flash_attention_is_tried_with_the_models_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_flash_attn(monkeypatch, installed=True)
    grouped = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
    for config in (Qwen3Config(**grouped), GPT2Config(n_embd=64, n_head=4), None):
        assert resolve_kernel("auto", CUDA, PRECISION, config) == "flash_attention_2"
        assert resolve_kernel("auto", CUDA, "16-mixed", config) == "flash_attention_2"
    wide = Qwen3Config(**{**grouped, "head_dim": 512})
    assert resolve_kernel("auto", CUDA, PRECISION, wide) == "sdpa"
    with pytest.raises(KernelError, match=r"with heads of 512 channels \(.* at most 256\)"):
        resolve_kernel("flash_attention_2", CUDA, PRECISION, wide)
    uneven = Qwen3Config(**{**grouped, "num_key_value_heads": 3})
    assert resolve_kernel("auto", CUDA, PRECISION, uneven) == "sdpa"


@pytest.mark.gpu
@pytest.mark.parametrize(("channels", "runs"), [(64, True), (512, False)])
def test_flash_attention_is_tried_on_a_gpu(channels: int, runs: bool) -> None:
    pytest.importorskip("flash_attn", reason="the package flash-attn is not installed")
    config = Qwen3Config(num_attention_heads=4, num_key_value_heads=2, head_dim=channels)
    kernel = resolve_kernel("auto", torch.device("cuda", 0), PRECISION, config)
    assert kernel == ("flash_attention_2" if runs else "sdpa")
