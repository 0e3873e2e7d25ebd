"""Dagster's side: each asset is one `kedro run` in the project's own environment.

PROJECT names the project's folder and KEDRO_ENV the configuration; both as environment variables.
"""

import os
import subprocess
from pathlib import Path

import dagster as dg

PROJECT = Path(os.environ.get("PROJECT", ".")).resolve()
ENVIRONMENT = os.environ.get("KEDRO_ENV", "base")


def made_by(pipeline: str, *after: str) -> dg.AssetsDefinition:
    """What a pipeline leaves, after what those before it left."""

    # The same command goes on where a training was cut off, so a retry repeats little.
    @dg.asset(name=pipeline, deps=after, retry_policy=dg.RetryPolicy(max_retries=2, delay=30))
    def run() -> None:
        command = [".venv/bin/kedro", "run", "--env", ENVIRONMENT, "--pipeline", pipeline]
        subprocess.run(command, cwd=PROJECT, check=True)  # noqa: S603

    return run


assets = [
    made_by("preprocess"),
    made_by("train_deepfm", "preprocess"),
    made_by("train", "train_deepfm"),
    made_by("compare", "train_deepfm", "train"),
]
nightly = dg.define_asset_job("nightly", selection="*")
schedule = dg.ScheduleDefinition(job=nightly, cron_schedule="0 3 * * *")
defs = dg.Definitions(assets=assets, jobs=[nightly], schedules=[schedule])
