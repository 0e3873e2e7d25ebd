"""Kills each path's training again and again, and holds its end against an undisturbed run's.

python -m benchmarks.soak --rounds 20

A round kills the run (SIGKILL) once before a certain rename or removal of a file, or up to three
times at random moments after its first state was kept, then lets it end. Checkpoints, predictions
and results must be the same to the bit, but for what the clock says.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from llm_ctr_pipeline.training.settings import PATHS

ROOT = Path(__file__).parents[1]
PIPELINES = {"single_phase": "train"}
# A state every few steps, so that runs are killed between states as well as within them.
PARAMS = {"training": {"keep_state_every_steps": 3, "validate_every_steps": 7}}
COMPARED = (
    "06_models/{path}/*/model.safetensors",
    "06_models/{path}/*/config.json",
    "07_model_output/{path}/*.parquet",
    "08_reporting/{path}/training_results.json",
    "08_reporting/{path}/evaluation_*.json",
)
# What the clock says, and the digest of a record that holds some of it.
TIMES = {"seconds", "rows_per_second", "timestamp", "sha256"}
TOUCHES = {"os.rename", "os.remove", "os.rmdir"}


@dataclass(frozen=True)
class Run:
    """How a run ended.

    Attributes:
        code: Exit code, negative for a signal.
        touches: Names that it changed or removed.
        seconds: How long it took from its first state on.
    """

    code: int
    touches: int
    seconds: float


class Project:
    """A copy of the project with encoded data and the models that paths start or learn from.

    It can be brought back to that.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder / "project", folder / "log.txt"
        shutil.copytree(ROOT / "conf", self.folder / "conf", ignore=shutil.ignore_patterns("local"))
        shutil.copy(ROOT / "pyproject.toml", self.folder)
        for name in ("conf/local", "src"):
            (self.folder / name).mkdir()
        self.data, self.prepared = self.folder / "data", folder / "prepared"
        os.chdir(self.folder)
        bootstrap_project(self.folder)  # what it imports, the runs need not
        for pipeline in ("preprocess_all", "train_deepfm", "train"):
            if self.run(pipeline).code != 0:
                sys.exit(self.log.read_text())
        shutil.copytree(self.data, self.prepared)

    def reset(self, path: str) -> None:
        """Leave nothing of a path's training."""
        shutil.rmtree(self.data)
        shutil.copytree(self.prepared, self.data)
        for made in self.data.glob(f"0[678]*/{path}"):
            shutil.rmtree(made)

    def run(self, pipeline: str, kill_at: float = 0, kill_after: float = 0) -> Run:
        """Run a pipeline in a process of its own.

        Args:
            pipeline: Its name.
            kill_at: Before which change of a name to kill it, counted from 1; 0 for none.
            kill_after: How many seconds after its first state to kill it.
        """
        counted = self.folder.with_name("counted.json")
        process = os.fork()
        if process == 0:
            self._become(pipeline, kill_at, kill_after, counted)
        _, status = os.waitpid(process, 0)
        touches, seconds = json.loads(counted.read_text()) if counted.exists() else (0, 0.0)
        return Run(os.waitstatus_to_exitcode(status), touches, seconds)

    def _become(self, pipeline: str, kill_at: float, kill_after: float, counted: Path) -> None:
        """Make this process the run."""
        code, touches, began = 1, 0, 0.0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal touches, began
            if event not in TOUCHES:
                return
            touches += 1
            if touches == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if not began and ".pt" in str(arguments[0]):
                began = time.monotonic()
                # Nothing handles its signal, which kills as SIGKILL does: at once.
                signal.setitimer(signal.ITIMER_REAL, kill_after)

        try:
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(log, stream)
            sys.addaudithook(watch)
            with KedroSession.create(self.folder, env="test", runtime_params=PARAMS) as session:
                session.run(pipeline_names=[pipeline])  # type: ignore[call-arg]
            counted.write_text(json.dumps([touches, time.monotonic() - began]))
            code = 0
        finally:
            os._exit(code)

    def outcome(self, path: str) -> dict[str, Any]:
        """What a path's training made, but for what the clock says."""
        made: dict[str, Any] = {}
        for pattern in COMPARED:
            for file in self.data.glob(pattern.format(path=path)):
                content = file.read_bytes()
                is_json = file.suffix == ".json"
                made[str(file)] = _without_times(json.loads(content)) if is_json else content
        return made


def soak(
    project: Project, path: str, rounds: int, every: int, moments: np.random.Generator
) -> tuple[int, int, int, int]:
    """Do a path's rounds, tell those that end otherwise, and count rounds as the table does."""
    pipeline = PIPELINES.get(path, f"train_{path}")
    project.reset(path)
    whole = project.run(pipeline)
    expected = project.outcome(path)
    if whole.code != 0 or len(expected) < len(COMPARED):
        sys.exit(project.log.read_text())
    # Each round: before which change of a name to kill, or after how many seconds.
    plans: list[tuple[str, list[float]]] = [
        *(("kill_at", [float(at)]) for at in range(1, whole.touches + 1, every)),
        *(
            ("kill_after", moments.uniform(0, whole.seconds, moments.integers(1, 4)).tolist())
            for _ in range(rounds)
        ),
    ]
    kills, resumed, otherwise = 0, 0, 0
    for how, chosen in plans:
        project.reset(path)
        went_on, code = False, -1
        for moment in (*chosen, 0):  # the last run is left alone
            code = project.run(pipeline, **{how: moment}).code
            went_on |= "Going on from step" in project.log.read_text()
            if code >= 0:  # it came to its end: another one would train anew
                break
            kills += 1
        resumed += went_on
        found = project.outcome(path)
        names = expected.keys() | found.keys()
        differing = [name for name in names if found.get(name) != expected.get(name)]
        if code != 0 or differing:
            otherwise += 1
            say(f"{path} {how} {chosen}: exit code {code}, other {differing}")
            say(project.log.read_text()[-3000:])
    return len(plans), kills, resumed, otherwise


def row(*cells: object) -> str:
    """A row of the table."""
    return "".join(f"{cell!s:<22}" for cell in cells)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _without_times(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_times(value) for key, value in content.items() if key not in TIMES}
    return [*map(_without_times, content)] if isinstance(content, list) else content


def main() -> None:
    """Print how many rounds of each path ended otherwise than undisturbed; fail if any did."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="at random moments, for each path")
    parser.add_argument("--every", type=int, default=1, help="of the changes of names each so many")
    parser.add_argument("--paths", nargs="+", choices=PATHS, default=PATHS)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    moments = np.random.default_rng(asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        project = Project(Path(folder))
        failed = 0
        say(row("path", "rounds", "kills", "went on", "ended otherwise"))
        for path in asked.paths:
            counts = soak(project, path, asked.rounds, asked.every, moments)
            say(row(path, *counts))
            failed += counts[-1]
        os.chdir(ROOT)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
