"""Kedro's settings of this project."""

import os

# Set before the plug-ins wake: no usage data leave this project.
os.environ.setdefault("DO_NOT_TRACK", "true")

from llm_ctr_pipeline.hooks.finished import FinishedHook
from llm_ctr_pipeline.hooks.locks import LocksHook
from llm_ctr_pipeline.hooks.preflight import PreflightHook
from llm_ctr_pipeline.hooks.run_facts import RunFactsHook
from llm_ctr_pipeline.hooks.summary import SummaryHook
from llm_ctr_pipeline.hooks.tracking import TrackingHook
from llm_ctr_pipeline.redaction import redact_all
from llm_ctr_pipeline.resolvers import RESOLVERS

redact_all()

# Later ones run first: the preflight and the locks refuse a run before MLflow hears of it.
_TRACKING = TrackingHook()
HOOKS = (
    *(FinishedHook(), SummaryHook(_TRACKING), _TRACKING, RunFactsHook()),
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
