"""Kedro's settings of this project."""

import os
from pathlib import Path

# Set before the plug-ins wake: no usage data leave this project.
os.environ.setdefault("DO_NOT_TRACK", "true")
# MLflow draws a bar for each model that it logs, of files that are on this disk.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import rich
import yaml  # type: ignore[import-untyped]
from kedro.framework.project import configure_logging

from llm_ctr_pipeline.resolvers import RESOLVERS, project_root

# Kedro looks for it below the working directory alone, and `kedro run` works in folders below too.
# It comes before the imports that warn.
LOGGING_FILE = Path(project_root()) / "conf" / "logging.yml"
is_found = LOGGING_FILE.parents[1] == Path.cwd() or os.environ.get("KEDRO_LOGGING_CONFIG")
if not is_found and LOGGING_FILE.exists():
    configure_logging(yaml.safe_load(LOGGING_FILE.read_text(encoding="utf-8")))

from llm_ctr_pipeline.hooks.finished import FinishedHook
from llm_ctr_pipeline.hooks.locks import LocksHook
from llm_ctr_pipeline.hooks.preflight import PreflightHook
from llm_ctr_pipeline.hooks.run_facts import RunFactsHook
from llm_ctr_pipeline.hooks.run_log import RunLogHook
from llm_ctr_pipeline.hooks.summary import PIPE_WIDTH, SummaryHook
from llm_ctr_pipeline.hooks.tracking import TrackingHook
from llm_ctr_pipeline.hooks.viz import VizHook
from llm_ctr_pipeline.redaction import redact_all

redact_all()

# In a file or a pipe lines need not fit a terminal, for which Rich takes 80 characters.
if not rich.get_console().is_terminal and "COLUMNS" not in os.environ:
    rich.reconfigure(width=PIPE_WIDTH)

# Later ones run first: the preflight and the locks refuse a run before MLflow hears of it.
_TRACKING = TrackingHook()
HOOKS = (
    *(VizHook(), FinishedHook(), SummaryHook(_TRACKING), RunLogHook()),
    *(_TRACKING, RunFactsHook()),
    *(LocksHook(), PreflightHook()),
)
# TrackingHook is kedro-mlflow's own hook with what this project adds.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow",)

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # An environment overrides single keys of a parameter group, not the whole group.
    "merge_strategy": {"parameters": "soft"},
    "custom_resolvers": RESOLVERS,
}
