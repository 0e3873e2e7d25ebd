"""Lists of kept states: of the training that is done, and of the one whose outputs are saved too.

Without torch: a hook reads them, and every command imports the hooks.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from llm_ctr_pipeline.data.storage.atomic import drafted

# A training's last act, and what becomes of it once the outputs are saved.
TRAINED, FINISHED = "trained.json", "finished.json"

# Most epochs, and patience, of each run of a training, by how the name of the run's state starts.
Limits = dict[str, list[int]]


def list_trained(folder: Path, limits: Limits) -> None:
    """List the states of a training that is done."""
    with drafted(folder / TRAINED) as draft:
        draft.write_text(json.dumps(limits))


def forget_trained(folder: Path) -> None:
    """Take a training that is done as one that its command goes on with."""
    (folder / TRAINED).unlink(missing_ok=True)


def mark_finished(folder: Path) -> None:
    """Take the training that is done as finished: all that was made of it is saved.

    Its states take the place of those of the finished one before.
    """
    now = _read(folder / TRAINED)
    if now:
        delete(folder, [start for start in listed(folder) if start not in now])
        (folder / TRAINED).replace(folder / FINISHED)


def listed(folder: Path) -> Limits:
    """The states of the finished training; none if there is none."""
    return _read(folder / FINISHED)


def forget(folder: Path) -> None:
    """Take the finished training as one that its command goes on with."""
    (folder / FINISHED).unlink()


def files(folder: Path, starts: Iterable[str]) -> list[Path]:
    """The states whose names start so."""
    return [file for start in starts for file in folder.glob(f"{start}_*.pt")]


def delete(folder: Path, starts: Iterable[str]) -> None:
    """Delete states, the last first, but those that states of others go on from."""
    for start in reversed([*starts]):
        key = start.partition("-")[2]
        if not any(folder.glob(f"{key}-*.pt")):
            for file in files(folder, [start]):
                file.unlink()


def _read(file: Path) -> Limits:
    try:
        content: Limits = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):  # damaged, it says no more than if it were not there
        return {}
    return content
