"""Logs made here: each folder has a manifest, which says what its log was made with."""

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from llm_ctr_pipeline.data.errors import RawLogError
from llm_ctr_pipeline.data.raw.manifest import BestAuc
from llm_ctr_pipeline.data.storage.atomic import drafted
from llm_ctr_pipeline.data.storage.store_path import AnyPath, is_whole
from llm_ctr_pipeline.frozen import Frozen


class MadeLog(Frozen):
    """What the rows of a log depend on; each kind has a `version` among it.

    Raise that when the same settings begin to give other rows: logs on disk are then rewritten.
    """

    manifest_name: ClassVar[str]


LogT = TypeVar("LogT", bound=MadeLog)


@dataclass(frozen=True)
class Manifest(Generic[LogT]):
    """What a folder's manifest says.

    Attributes:
        log: What the log was made with; None where another version wrote other keys.
        best_auc: See `BestAuc`; None for a log whose true probabilities are not known.
    """

    log: LogT | None
    best_auc: BestAuc | None


def read_manifest(folder: AnyPath, kind: type[LogT]) -> Manifest[LogT] | None:
    """Read a folder's manifest; None where it holds no log of this kind."""
    file = folder / kind.manifest_name
    if not file.is_file():
        return None
    content = json.loads(file.read_text(encoding="utf-8"))
    best_auc = content.pop("best_auc", None)
    try:
        return Manifest(kind.from_json(content), best_auc)
    except ValidationError:
        return Manifest(None, best_auc)


def provide(
    folder: AnyPath,
    log: LogT,
    splits: Collection[str],
    advice: str,
    write: Callable[[AnyPath], BestAuc | None],
) -> Manifest[LogT]:
    """Write a log unless the folder already holds it, all of it or nothing.

    Args:
        folder: Where it goes.
        log: What it is made with.
        splits: Those that have a file.
        advice: What follows from a folder's holding something else, and what to do then.
        write: Writes `{split}.csv` and `{split}_truth.parquet` to a folder.

    Raises:
        RawLogError: If the folder holds files that are no such log.
    """
    held = read_manifest(folder, type(log))
    if held is None and folder.exists() and any(folder.iterdir()):
        raise RawLogError(f"{folder} holds files but no {log.manifest_name}, so {advice}")
    complete = is_whole(folder) and all((folder / f"{split}.csv").is_file() for split in splits)
    if held is not None and held.log == log and complete:
        return held
    with drafted(folder) as draft:
        draft.mkdir()
        made = Manifest(log, write(draft))
        content = json.dumps({**log.to_json(), "best_auc": made.best_auc}, indent=2)
        (draft / log.manifest_name).write_text(f"{content}\n", encoding="utf-8")
    return made


def auc_of_truth(labels: NDArray[np.int8], probabilities: NDArray[np.float64]) -> float | None:
    """Return the AUC of a split's true probabilities; None where it holds one class only."""
    from sklearn.metrics import roc_auc_score  # a second to import, rarely needed

    if labels.min() == labels.max():
        return None
    return float(roc_auc_score(labels, probabilities))
