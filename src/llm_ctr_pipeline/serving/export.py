"""A trained model in the formats of other tools.

| format | a folder with | behind |
|---|---|---|
| `huggingface` | the language model with its whole vocabulary, and its tokenizer | feature tokens |
| `torch` | `scorer.pt2`, a program of `torch.export`; feature map and vocabulary | ids |
| `compiled` | `scorer.pt2`, that program compiled for such machines; the same beside it | ids |
| `onnx` | `scorer.onnx`; the same beside it | ids |

A scorer takes `ids`, int64 `[B, F]` with any number of rows B and the fields in the feature map's
order, and returns `probability`, float32 `[B]`.
"""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any, Literal, Protocol

import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llm_ctr_pipeline.data.errors import SettingsError
from llm_ctr_pipeline.data.storage.record_text import to_text
from llm_ctr_pipeline.models.fixed_prompt import FixedPromptCtr
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.loading import load_llm
from llm_ctr_pipeline.models.settings import LlmSettings
from llm_ctr_pipeline.training.checkpoint import Checkpoint

Format = Literal["huggingface", "torch", "compiled", "onnx"]
TRACED_ROWS = 3
# What a configuration says of what wrote it, and of the vocabulary, of which a checkpoint has rows.
NOT_OF_THE_LAYERS = {
    *("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version"),
    *("vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"),
}


class Export(Protocol):
    """A model in another format."""

    def write(self, folder: Path) -> None:
        """Write it into a folder that is there and empty."""


@dataclass(frozen=True)
class HuggingFaceExport:
    """A language model for `AutoModelForCausalLM.from_pretrained`, and its tokenizer."""

    causal_lm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    def write(self, folder: Path) -> None:
        """Write configuration, weights and tokenizer."""
        self.causal_lm.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


@dataclass(frozen=True)
class ScorerExport:
    """A scorer as a program, with what its ids mean.

    Attributes:
        program: What `torch.export` made of the model.
        checkpoint: Where the ids come from.
        to: The format.
    """

    program: ExportedProgram
    checkpoint: Checkpoint
    to: Literal["torch", "compiled", "onnx"]

    def write(self, folder: Path) -> None:
        """Write program, feature map and vocabulary."""
        if self.to == "torch":
            torch.export.save(self.program, folder / "scorer.pt2")
        elif self.to == "compiled":
            compile_program(self.program, folder / "scorer.pt2")
        else:
            write_onnx(self.program, folder / "scorer.onnx")
        feature_map = to_text(self.checkpoint.feature_map)
        (folder / "feature_map.json").write_text(feature_map, encoding="utf-8")
        pq.write_table(self.checkpoint.vocabulary, folder / "vocabulary.parquet")


class ProbabilityModel(nn.Module):
    """A model that returns probabilities, by their name."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        """Compute probabilities of a click, float32 `[B]`, from ids, int64 `[B, F]`."""
        return {"probability": torch.sigmoid(self.model(ids))}


def export_checkpoint(checkpoint: Checkpoint, to: Format, llm: LlmSettings) -> Export:
    """Bring a trained model into another format.

    Args:
        checkpoint: The model.
        to: The format.
        llm: The language model that training started from; of it are the vocabulary rows that
            were not trained. Read for `huggingface` alone.

    Raises:
        SettingsError: The model has no language model to write as `huggingface`, or `llm` is
            another than it was made of; packages that `onnx` needs are missing, or the compiler
            that `compiled` needs.
    """
    if to == "huggingface":
        return _huggingface(checkpoint, llm)
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if to == "onnx" and missing:
        raise SettingsError(
            f"export.to=onnx needs {' and '.join(missing)}: install the extra `export` (`pip "
            "install -e '.[export]'`), or set export.to=torch"
        )
    if to == "compiled" and which(os.environ.get("CXX", "g++")) is None:
        raise SettingsError(
            "export.to=compiled needs a C++ compiler: install g++ or name another in the "
            "environment variable CXX, or set export.to=torch"
        )
    return ScorerExport(trace(checkpoint.build()), checkpoint, to)


def trace(model: nn.Module) -> ExportedProgram:
    """Make a program of a trained model, for any number of rows; an `LlmCtr` has a fixed prompt.

    Args:
        model: Ids int `[B, F]` to log-odds float `[B]`; has `field_sizes`.
    """
    fixed = FixedPromptCtr(model) if isinstance(model, LlmCtr) else model
    scorer = ProbabilityModel(fixed).eval()
    fields: Any = model.field_sizes
    ids_BF = torch.zeros(TRACED_ROWS, len(fields), dtype=torch.int64)
    with torch.no_grad():
        return torch.export.export(scorer, (ids_BF,), dynamic_shapes={"ids": {0: Dim("batch")}})


def _huggingface(checkpoint: Checkpoint, llm: LlmSettings) -> HuggingFaceExport:
    """Put the trained weights into the language model that training started from."""
    model, trained = checkpoint.build(), checkpoint.training
    if not isinstance(model, LlmCtr) or checkpoint.tokenizer is None:
        raise SettingsError(
            f"{trained.path} has no language model to write as huggingface: set export.to to "
            "torch or onnx, or export.path to a path with a language model"
        )
    text = model.settings.prompt + model.settings.prompt_suffix
    causal_lm, _ = load_llm(llm, text, trained.seed)
    own, given = (module.config.to_dict() for module in (model.llm.backbone, causal_lm))
    differing = [
        name
        for name in sorted((own.keys() | given.keys()) - NOT_OF_THE_LAYERS)
        if own.get(name) != given.get(name)
    ]
    if model.llm.tokens.used[-1] >= given["vocab_size"]:
        differing.append("vocab_size")
    if differing:
        raise SettingsError(
            f"llm.pretrained or llm.architecture is not what {trained.path} was trained from: "
            f"{', '.join(differing)} differ; set it as it was"
        )
    return HuggingFaceExport(model.llm.write_into(causal_lm), checkpoint.tokenizer)


def compile_program(program: ExportedProgram, file: Path) -> None:
    """Compile a program ahead of time, for `torch._inductor.aoti_load_package`; takes a minute."""
    from torch._inductor import aoti_compile_and_package

    aoti_compile_and_package(program, package_path=str(file))


def write_onnx(program: ExportedProgram, file: Path) -> None:
    """Write a program in ONNX, its input and output by their names."""
    converted: Any = torch.onnx.export(
        program, input_names=["ids"], output_names=["probability"], dynamo=True, verbose=False
    )
    converted.save(file)
