import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.loading import LlmNotFoundError, load_llm
from llm_ctr_pipeline.models.prompt import PromptTokens, build_small_tokenizer
from llm_ctr_pipeline.models.settings import LlmSettings

MakeLm = Callable[..., PreTrainedModel]

TEXT = "Answer with 1 for click or 0 for no click:"
NAME = "Qwen/Qwen3-0.6B"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ARCHITECTURE = {
    "model_type": "qwen3",
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "tie_word_embeddings": True,
}
SMALL = LlmSettings(pretrained=None, architecture=ARCHITECTURE, attention="auto")


def named(folder: Path | str) -> LlmSettings:
    return LlmSettings(pretrained=str(folder), architecture=None, attention="auto")


@pytest.fixture
def pretrained(tmp_path: Path, make_causal_lm: MakeLm) -> Path:
    """A folder as `hf download` leaves it; the weights are bfloat16, as published ones are."""
    folder = tmp_path / "small-qwen3"
    tokenizer = build_small_tokenizer(TEXT, 512)
    tokenizer.save_pretrained(folder)
    make_causal_lm("qwen3", vocab_size=len(tokenizer)).bfloat16().save_pretrained(folder)
    return folder


def test_a_small_model_is_made_from_its_architecture() -> None:
    causal_lm, tokenizer = load_llm(SMALL, TEXT, seed=1)
    assert type(causal_lm).__name__ == "Qwen3ForCausalLM"
    assert causal_lm.get_input_embeddings().weight.shape == (len(tokenizer), 32)
    assert len(tokenizer(TEXT)["input_ids"]) < 15
    again, _ = load_llm(SMALL, TEXT, seed=1)
    other, _ = load_llm(SMALL, TEXT, seed=2)
    weights, same, different = (
        causal_lm.model.layers[1].mlp.up_proj.weight,
        again.model.layers[1].mlp.up_proj.weight,
        other.model.layers[1].mlp.up_proj.weight,
    )
    assert torch.equal(weights, same)
    assert not torch.equal(weights, different)


def test_a_folder_is_loaded_in_float32(pretrained: Path, make_causal_lm: MakeLm) -> None:
    causal_lm, tokenizer = load_llm(named(pretrained), "not used", seed=1)
    assert {weight.dtype for weight in causal_lm.parameters()} == {torch.float32}
    saved = make_causal_lm("qwen3", vocab_size=len(tokenizer)).bfloat16().float().state_dict()
    assert all(torch.equal(weight, saved[name]) for name, weight in causal_lm.state_dict().items())
    assert tokenizer.decode(tokenizer(TEXT)["input_ids"]) == TEXT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "could not be loaded from the folder"),
        (lambda folder: (folder / "model.safetensors").unlink(), "could not be loaded from"),
        (lambda folder: cut(folder / "config.json"), "config.json is damaged or cut off"),
        (lambda folder: (folder / "config.json").write_text("[]"), "could not be loaded from"),
        (lambda folder: edit(folder, model_type="unheard"), "does not recognize this arch"),
        (lambda folder: edit(folder, model_type="my", auto_map={"AutoConfig": "x.Y"}), "custom"),
        (lambda folder: edit(folder, hidden_size="many"), "expected int, got str"),
        (lambda folder: edit(folder, hidden_size=64), "another size than config.json says, model."),
        (lambda folder: cut(folder / "tokenizer.json"), "tokenizer.json is damaged or cut off"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no file of a tokenizer is there"),
        (lambda folder: drop(folder, "layers.1."), "11 of its 24 weights are missing, .* model.la"),
    ],
)
def test_a_damaged_folder_is_named_with_its_fault(
    pretrained: Path, change: Callable[[Path], object], message: str
) -> None:
    change(pretrained)
    with pytest.raises(RefusedError, match=message) as raised:
        load_llm(named(pretrained), TEXT, seed=1)
    assert repr(str(pretrained)) in str(raised.value)
    assert "fetch the model again" in str(raised.value)
    assert "\n" not in str(raised.value)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:300])


def edit(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def drop(folder: Path, part: str) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if part not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_weights_without_a_place_are_told(
    pretrained: Path, make_causal_lm: MakeLm, caplog: pytest.LogCaptureFixture
) -> None:
    size = load_file(pretrained / "model.safetensors")["model.embed_tokens.weight"].shape[0]
    deeper = make_causal_lm("llama", vocab_size=size, num_hidden_layers=3)
    deeper.save_pretrained(pretrained)
    edit(pretrained, num_hidden_layers=2)
    load_llm(named(pretrained), TEXT, seed=1)
    assert "holds 9 weights that its config.json has no place for, model.layers.2." in caplog.text


def test_a_model_is_loaded_without_its_dropout(pretrained: Path, make_causal_lm: MakeLm) -> None:
    size = load_file(pretrained / "model.safetensors")["model.embed_tokens.weight"].shape[0]
    changes = {"attn_pdrop": 0.1, "resid_pdrop": 0.1, "embd_pdrop": 0.1}
    make_causal_lm("gpt2", vocab_size=size, **changes).save_pretrained(pretrained)
    causal_lm, _ = load_llm(named(pretrained), TEXT, seed=1)
    rates = {module.p for module in causal_lm.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.0}
    # The check of the decoder runs in training mode, in which attention dropout would be refused.
    tokens = PromptTokens(prompt=(5, 9), suffix=(), answers=(15, 16))
    assert LlmDecoder.from_causal_lm(causal_lm, tokens) is not None


@pytest.mark.parametrize("model_type", ["unheard", "falcon_h1", "t5", "mamba"])
def test_an_architecture_that_makes_no_model_is_refused_in_one_line(model_type: str) -> None:
    architecture = SMALL.architecture.model_copy(update={"model_type": model_type})
    with pytest.raises(RefusedError) as raised:
        load_llm(SMALL.model_copy(update={"architecture": architecture}), TEXT, seed=1)
    assert model_type in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_folder_is_named_with_the_way_out(tmp_path: Path) -> None:
    folder = str(tmp_path / "not" / "there")
    with pytest.raises(LlmNotFoundError) as raised:
        load_llm(named(folder), TEXT, seed=1)
    assert f"language model {folder!r} could not be loaded" in str(raised.value)
    assert "set llm.pretrained to it" in str(raised.value)


# The hub's library waits 23 s between its tries; there is nothing to wait for here.
LOAD = """
import sys, time
time.sleep = lambda _seconds: None
from llm_ctr_pipeline.models.loading import LlmNotFoundError, load_llm
from llm_ctr_pipeline.models.settings import LlmSettings
llm = LlmSettings(pretrained=sys.argv[1], architecture=None, attention="auto")
try:
    causal_lm, tokenizer = load_llm(llm, "", seed=0)
except LlmNotFoundError as error:
    sys.exit(str(error))
embedding = causal_lm.get_input_embeddings().weight
sys.stdout.write(f"{type(causal_lm).__name__} {len(tokenizer)} {embedding.sum().item():.6f}")
"""


def load_by_name(endpoint: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Load in a process of its own: the hub's address is read when its library is imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = {**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-c", LOAD, NAME],
        capture_output=True,
        check=False,
        text=True,
        env=environment,
        timeout=120,
    )


@pytest.mark.slow
def test_a_hub_out_of_reach_is_said_with_the_way_out(tmp_path: Path) -> None:
    # Port 1 of the loopback device is closed: nothing leaves the machine.
    finished = load_by_name("http://127.0.0.1:1", tmp_path)
    assert finished.returncode == 1
    assert f"language model '{NAME}' could not be loaded from the hub or folder" in finished.stderr
    assert f"hf download {NAME} --local-dir FOLDER" in finished.stderr
    assert "set llm.pretrained to it" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.slow
def test_a_model_is_loaded_by_name_from_a_stand_in_of_the_hub(
    tmp_path: Path, pretrained: Path
) -> None:
    causal_lm, tokenizer = load_llm(named(pretrained), "", seed=0)
    embedding = causal_lm.get_input_embeddings().weight
    with serve_hub(pretrained) as (endpoint, served):
        finished = load_by_name(endpoint, tmp_path / "cache")
    assert finished.returncode == 0, finished.stderr
    expected = f"Qwen3ForCausalLM {len(tokenizer)} {embedding.sum().item():.6f}"
    assert finished.stdout == expected
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(served)


@pytest.mark.slow
def test_a_name_that_the_hub_does_not_have_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with serve_hub(tmp_path / "empty") as (endpoint, _):
        finished = load_by_name(endpoint, tmp_path / "cache")
    assert finished.returncode == 1
    assert f"language model '{NAME}' could not be loaded from the hub or folder" in finished.stderr
    assert "Traceback" not in finished.stderr


class StandInForTheHub(BaseHTTPRequestHandler):
    """Answers as the hub does for one model, of a subclass's files."""

    files: dict[str, bytes]
    served: list[str]

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        name = unquote(urlsplit(self.path).path).rsplit("/", 1)[1]
        of_model = self.path.startswith(f"/{NAME}/resolve/")
        about_model = self.path.startswith(f"/api/models/{NAME}") and "/tree/" not in self.path
        if about_model and self.files:
            siblings = [{"rfilename": name} for name in self.files]
            self.send(json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode(), True)
        elif of_model and name in self.files:
            if with_body:
                self.served.append(name)
            self.send(self.files[name], with_body)
        else:
            self.send(None, with_body)

    def send(self, body: bytes | None, with_body: bool) -> None:
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("X-Repo-Commit", COMMIT)
        if body is None:
            code = "EntryNotFound" if self.files else "RepoNotFound"
            self.send_header("X-Error-Code", code)
        else:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if body and with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def serve_hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve a folder as a model of the hub; yields the address, and the files given as it goes."""
    served: list[str] = []
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    handler = type("Hub", (StandInForTheHub,), {"files": files, "served": served})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
