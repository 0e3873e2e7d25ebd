"""Checkpoints: a folder that can be loaded without the run that made it.

| file | holds |
|---|---|
| `model.safetensors` | the weights |
| `config.json` | the model's architecture and settings, and what trained it |
| `feature_map.json`, `vocabulary.parquet` | the feature map that the ids come from |
| `summary.json` | its log: raw columns, the fields made of them, counts of rows |
| `tokenizer.json`, `tokenizer_config.json` | the language model's tokenizer, if it has one |
| `manifest.json` | the SHA-256 of each of them |
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap, check_ids
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.record_text import RecordError, RecordT, from_text, to_text
from llm_ctr_pipeline.data.storage.store_path import digest_of_files
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.baselines.description import Baseline, BaselineDescription
from llm_ctr_pipeline.models.llm_ctr import LlmCtr, LlmCtrDescription
from llm_ctr_pipeline.training.history import Provenance

FORMAT_VERSION = 5
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"
FILES = ("config.json", WEIGHTS, "feature_map.json", "vocabulary.parquet", "summary.json")

# The models that a checkpoint can hold; a description's `kind` says which it is of.
CtrModel = LlmCtr | Baseline
Description = Annotated[LlmCtrDescription | BaselineDescription, Field(discriminator="kind")]


class Config(Frozen):
    """`config.json`.

    Attributes:
        model: What the model's `describe` gave.
        tokenizer: Whether there is one.
        feature_map_fingerprint: That of the map which the model's ids come from.
        training: What trained it.
    """

    model: Description
    tokenizer: bool
    feature_map_fingerprint: str
    training: Provenance


class Manifest(Frozen):
    """`manifest.json`, written last.

    Attributes:
        format_version: Of the folder.
        files: SHA-256 of each other file, in hexadecimal.
    """

    format_version: int
    files: dict[str, str]


class CheckpointError(RefusedError, ValueError):
    """A folder is not a checkpoint, or not one that can be read here."""


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """A trained model and all that is needed to use it.

    Attributes:
        model: What the model's `describe` gave.
        weights: The model's state, on the CPU.
        feature_map: The feature map that the model's ids come from.
        vocabulary: Columns field, value, count, id; of a joint one also dataset.
        summary: Of the log that it was trained on last.
        tokenizer: The language model's; None for a model without one.
        training: What trained it.
        files: SHA-256 of each of its files, where it was loaded.
    """

    model: Description
    weights: dict[str, Tensor]
    feature_map: FeatureMap
    vocabulary: pa.Table
    summary: DatasetSummary
    tokenizer: PreTrainedTokenizerBase | None
    training: Provenance
    files: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        weights = sum(weight.numel() for weight in self.weights.values())
        trained = self.training
        return (
            f"<Checkpoint of {trained.path}: {self.model.kind}, {weights:,} weights, trained on "
            f"{trained.dataset} ({trained.source}), validation AUC {trained.best.valid_auc:.4f}>"
        )

    def build(self) -> CtrModel:
        """Build the model with its trained weights, in evaluation mode on the CPU."""
        model: CtrModel = self.model.build()
        model.load_state_dict(self.weights)
        return model.eval()


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> dict[str, str]:
    """Write a checkpoint whole or not at all.

    Args:
        folder: Where to; what lies there is replaced.
        checkpoint: What to write.

    Returns:
        SHA-256 of each file.

    Raises:
        StorageError: If the disk is full; what lay there is as it was.
    """
    weights = {name: weight.contiguous() for name, weight in checkpoint.weights.items()}
    config = Config(
        model=checkpoint.model,
        tokenizer=checkpoint.tokenizer is not None,
        feature_map_fingerprint=checkpoint.feature_map.fingerprint,
        training=checkpoint.training,
    )
    with drafted(folder) as draft:
        draft.mkdir()
        save_file(weights, draft / WEIGHTS)
        _write(draft / "config.json", config)
        _write(draft / "feature_map.json", checkpoint.feature_map)
        _write(draft / "summary.json", checkpoint.summary)
        pq.write_table(checkpoint.vocabulary, draft / "vocabulary.parquet")
        if checkpoint.tokenizer is not None:
            checkpoint.tokenizer.save_pretrained(draft)
        files = {path.name: digest_of_files([path]) for path in sorted(draft.iterdir())}
        _write(draft / MANIFEST, Manifest(format_version=FORMAT_VERSION, files=files))
    return files


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint, every file of which is as it was saved.

    Raises:
        CheckpointError: A file is missing, damaged, replaced by another or more than there should
            be, or the checkpoint is of another format; the message names the file.
    """
    files = _check_files(folder)
    config = _read(folder / "config.json", Config)
    feature_map = _read(folder / "feature_map.json", FeatureMap)
    check_ids(feature_map, config.feature_map_fingerprint, None)
    loaded = Checkpoint(
        model=config.model,
        weights=load_file(folder / WEIGHTS),
        feature_map=feature_map,
        vocabulary=pq.read_table(folder / "vocabulary.parquet"),
        summary=_read(folder / "summary.json", DatasetSummary),
        tokenizer=AutoTokenizer.from_pretrained(folder) if config.tokenizer else None,
        training=config.training,
        files=files,
    )
    if _read(folder / MANIFEST, Manifest).files != files:
        raise CheckpointError(f"{folder} was replaced while it was being read: run again")
    return loaded


def _check_files(folder: Path) -> dict[str, str]:
    """See that a folder holds the files of its manifest and no others; return their digests."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is no checkpoint: config.json is missing")
    if not (folder / MANIFEST).is_file():
        raise CheckpointError(
            f"{folder} has no {MANIFEST}: an earlier version of this project wrote it, or the file "
            "was removed"
        )
    manifest = _read(folder / MANIFEST, Manifest)
    if manifest.format_version != FORMAT_VERSION:
        raise CheckpointError(
            f"{folder} has checkpoint format {manifest.format_version}, and this version reads "
            f"format {FORMAT_VERSION}"
        )
    # Hidden files are a file manager's or a network file system's.
    found = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {MANIFEST}
    for name in sorted((manifest.files.keys() | {*FILES}) - found):
        raise CheckpointError(f"{folder} is no checkpoint: {name} is missing")
    for name in sorted(found - manifest.files.keys()):
        raise CheckpointError(f"{folder / name} is no part of the checkpoint: move it elsewhere")
    for name, digest in manifest.files.items():
        if digest_of_files([folder / name]) != digest:
            raise CheckpointError(
                f"{folder / name} is damaged or another checkpoint's: it has not the SHA-256 that "
                f"{MANIFEST} names"
            )
    return manifest.files


def _write(file: Path, record: Frozen) -> None:
    file.write_text(to_text(record), encoding="utf-8")


def _read(file: Path, kind: type[RecordT]) -> RecordT:
    try:
        return from_text(kind, file.read_bytes())
    except RecordError as error:
        raise CheckpointError(f"{file} is not as this version writes it: {error}") from error
