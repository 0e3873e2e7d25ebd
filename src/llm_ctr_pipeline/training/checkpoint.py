"""Checkpoints: a folder that can be loaded without the run that made it.

| file | holds |
|---|---|
| `model.safetensors` | the weights |
| `config.json` | the model's architecture and settings, and what trained it |
| `feature_map.json`, `vocabulary.parquet` | the feature map that the ids come from |
| `tokenizer.json`, `tokenizer_config.json` | the language model's tokenizer, if it has one |
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, check_ids
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.models.deepfm import DeepFm, DeepFmDescription
from llm_ctr_pipeline.models.llm_ctr import LlmCtr, LlmCtrDescription
from llm_ctr_pipeline.training.history import Provenance

FORMAT_VERSION = 2
FILES = ("config.json", "model.safetensors", "feature_map.json", "vocabulary.parquet")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")

# The models that a checkpoint can hold; a description's `kind` says which it is of.
CtrModel = LlmCtr | DeepFm
Description = LlmCtrDescription | DeepFmDescription
DESCRIPTION: TypeAdapter[Description] = TypeAdapter(Description)


class CheckpointError(RefusedError, ValueError):
    """A folder is not a checkpoint, or not one that can be read here."""


class MissingFileError(CheckpointError):
    """A folder lacks a file that every checkpoint has."""


@dataclass(frozen=True)
class Checkpoint:
    """A trained model and all that is needed to use it.

    Attributes:
        model: What the model's `describe` gave.
        weights: The model's state, on the CPU.
        feature_map: The feature map that the model's ids come from.
        vocabulary: Columns field, value, count, id.
        tokenizer: The language model's; None for a model without one.
        training: What trained it.
    """

    model: Description
    weights: dict[str, Tensor]
    feature_map: FeatureMap
    vocabulary: pa.Table
    tokenizer: PreTrainedTokenizerBase | None
    training: Provenance

    def build(self) -> CtrModel:
        """Build the model with its trained weights, in evaluation mode on the CPU."""
        model: CtrModel = self.model.build()
        model.load_state_dict(self.weights)
        return model.eval()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        folder: Where to; what lies there is replaced.
        checkpoint: What to write.

    Raises:
        StorageError: If the disk is full; what lay there is as it was.
    """
    weights = {name: weight.contiguous() for name, weight in checkpoint.weights.items()}
    config = {
        "format_version": FORMAT_VERSION,
        "model": checkpoint.model.to_json(),
        "tokenizer": checkpoint.tokenizer is not None,
        "feature_map_fingerprint": checkpoint.feature_map.fingerprint,
        "training": checkpoint.training.to_json(),
    }
    with drafted(folder) as draft:
        draft.mkdir()
        save_file(weights, draft / "model.safetensors")
        _write_json(draft / "config.json", config)
        _write_json(draft / "feature_map.json", checkpoint.feature_map.to_json())
        pq.write_table(checkpoint.vocabulary, draft / "vocabulary.parquet")
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.save_pretrained(draft)


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        CheckpointError: A file is missing, or the checkpoint is of another format.
        FingerprintError: The feature map in the folder is not the model's (of `data.feature_map`).
    """
    _check_files(folder, FILES)
    config = json.loads((folder / "config.json").read_text())
    if config["format_version"] != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {config['format_version']}, and this version reads "
            f"format {FORMAT_VERSION}: train again, or use the version that wrote it"
        )
    if config["tokenizer"]:
        _check_files(folder, TOKENIZER_FILES)
    feature_map = FeatureMap.from_json(json.loads((folder / "feature_map.json").read_text()))
    check_ids(feature_map, config["feature_map_fingerprint"], None)
    return Checkpoint(
        model=DESCRIPTION.validate_python(config["model"]),
        weights=load_file(folder / "model.safetensors"),
        feature_map=feature_map,
        vocabulary=pq.read_table(folder / "vocabulary.parquet"),
        tokenizer=AutoTokenizer.from_pretrained(folder) if config["tokenizer"] else None,
        training=Provenance.from_json(config["training"]),
    )


def _check_files(folder: Path, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise MissingFileError(f"{folder} is no checkpoint: {missing[0]} is missing")


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
