"""Whether a language model's folder is whole: a copy or a download that broke off leaves parts."""

import json
from collections.abc import Callable, Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from llm_ctr_pipeline.data.errors import RefusedError

INDEX = "model.safetensors.index.json"
POINTER = b"version https://git-lfs"
TEXTS = {".json", ".model", ".txt", ".jinja"}  # of configuration and tokenizer
PARTS_OF_A_TOKENIZER = ("tokenizer.", "vocab", "merges", "piece", "tekken", "tiktoken", "spm")
FULL_PRECISION = {"F64", "F32", "F16", "BF16"}


class DamagedModelError(RefusedError, OSError):
    """Files of a language model are missing, cut off or not what they should be."""


def check_files(folder: Path) -> None:
    """Open the files of a language model's folder that tell whether they are whole.

    Raises:
        DamagedModelError: Names the folder, the file and what is wrong with it.
    """
    texts = [file for file in sorted(folder.glob("*.*")) if file.suffix in TEXTS and file.is_file()]
    for file in texts:
        _check_file(file, _check_text)
    # Without any, transformers makes a tokenizer of nothing.
    if not any(part in file.name for file in folder.iterdir() for part in PARTS_OF_A_TOKENIZER):
        raise _damaged(folder, "no file of a tokenizer is there, such as tokenizer.json")
    weights = [folder / "model.safetensors"]
    index = folder / INDEX
    if not weights[0].is_file() and index in texts:
        shards = json.loads(index.read_text()).get("weight_map", {})
        weights = [folder / name for name in sorted(set(shards.values()))]
        missing = [file.name for file in weights if not file.is_file()]
        if missing:
            raise _damaged(
                folder,
                f"{len(missing)} of {len(weights)} files of weights are "
                f"missing, {missing[0]} the first",
            )
    for file in weights:
        if file.is_file():
            _check_file(file, _check_weights_of)


def check_weights(name: str, causal_lm: PreTrainedModel, missing: Collection[str]) -> None:
    """Refuse a model of which weights were not found: they would be random.

    Args:
        name: Name of the model, or its folder.
        causal_lm: The model.
        missing: Names of the weights that were not found, or not in the size needed.

    Raises:
        DamagedModelError: Says how many, and which first.
    """
    if missing:
        weights = [key for key, _ in causal_lm.named_parameters()]
        first = next((key for key in weights if key in missing), min(missing))
        raise _damaged(
            name,
            f"{len(missing)} of its {len(weights)} weights are missing, or of another size than "
            f"config.json says, {first} the first",
        )


def _check_file(file: Path, check: Callable[[Path], None]) -> None:
    """Refuse a file that cannot be read, is none, or that the check of its content objects to."""
    try:
        with file.open("rb") as opened:
            is_pointer = opened.read(len(POINTER)) == POINTER
        if not is_pointer:
            check(file)
    except RefusedError:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        raise _damaged(file.parent, f"{file.name} is damaged or cut off ({error})") from error
    if is_pointer:
        raise _damaged(
            file.parent,
            f"{file.name} is a pointer of git-lfs and not the file itself (`git lfs pull` in the "
            "folder fetches it)",
        )


def _check_text(file: Path) -> None:
    if file.suffix == ".json":
        content = json.loads(file.read_bytes())
        if file.name == INDEX and not isinstance(content, dict):
            raise ValueError("it names no files of weights")


def _check_weights_of(file: Path) -> None:
    """Read a header, which a file that was cut off does not fit, and the weights' dtypes."""
    with safe_open(file, framework="pt") as weights:
        for key in weights.keys():  # noqa: SIM118 - no mapping
            dtype = weights.get_slice(key).get_dtype()
            if key.endswith("weight") and dtype not in FULL_PRECISION:
                raise DamagedModelError(
                    f"language model {str(file.parent)!r}: {file.name} holds {key} as {dtype}, "
                    "quantised, and training needs it whole: take the model in bfloat16, float16 "
                    "or float32"
                )


def _damaged(name: Path | str, fault: str) -> DamagedModelError:
    return DamagedModelError(f"language model {str(name)!r}: {fault}; fetch the model again")
