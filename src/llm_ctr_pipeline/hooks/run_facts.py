"""Where a run comes from: its command, the commit, the machine, and what it sets differently."""

import json
import os
import platform
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

from kedro.config import OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import settings
from kedro.io import AbstractDataset, DataCatalog, DatasetError
from kedro.pipeline import Pipeline

from llm_ctr_pipeline.redaction import redacted
from llm_ctr_pipeline.reporting.pages.facts import ChangedSetting, RunFacts

RUN_FACTS = "run_facts"  # in the catalog
PACKAGES = ("llm-ctr-pipeline", "torch", "transformers")
# Of `kedro run`, beside --env and --params: how a session calls them, and how the command does.
OPTIONS = {
    "pipeline_names": "--pipelines",
    "tags": "--tags",
    "node_names": "--nodes",
    "from_nodes": "--from-nodes",
    "to_nodes": "--to-nodes",
    "from_inputs": "--from-inputs",
    "to_outputs": "--to-outputs",
}


class RunFactsDataset(AbstractDataset[Any, RunFacts]):
    """Gives a node the facts of the run that it belongs to: an entry of the catalog.

    Args:
        metadata: For other tools; Kedro ignores it.

    Attributes:
        find: Finds them; a hook sets it when a run begins.
    """

    def __init__(self, *, metadata: dict[str, Any] | None = None) -> None:
        self.metadata = metadata
        self.find: Callable[[], RunFacts] | None = None

    def load(self) -> RunFacts:
        """Find the facts.

        Raises:
            DatasetError: No run has begun.
        """
        if self.find is None:
            raise DatasetError(
                "what a run knows of itself is known while it runs: its report.html has it"
            )
        return self.find()

    def save(self, data: Any) -> NoReturn:
        """Refuse: nobody but the run knows."""
        raise DatasetError("the facts of a run are found, not saved")

    def _exists(self) -> bool:
        """Whether a run can have them: always."""
        return True

    def _describe(self) -> dict[str, Any]:
        return {}


class RunFactsHook:
    """Gives the datasets that say where a run comes from what they say."""

    def __init__(self) -> None:
        self._context: KedroContext | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep the configuration's loader."""
        self._context = context

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Say how the facts are found, which is done where a report is written."""
        inputs = pipeline.inputs()
        if RUN_FACTS not in inputs:
            return
        dataset = catalog.get(RUN_FACTS)
        assert isinstance(dataset, RunFactsDataset)  # noqa: S101 - by the catalog
        assert self._context is not None  # noqa: S101 - it was created
        dataset.find = partial(facts_of, run_params, self._context, groups_of(pipeline))


def groups_of(pipeline: Pipeline) -> set[str]:
    """The groups of settings that a run is told, by their full names."""
    inputs = pipeline.inputs()
    return {name.removeprefix("params:") for name in inputs if name.startswith("params:")}


def facts_of(run_params: Mapping[str, Any], context: KedroContext, groups: set[str]) -> RunFacts:
    """Find the facts of a run.

    Args:
        run_params: Kedro's.
        context: With the configuration.
        groups: The groups of settings that the run is told, by their full names.
    """
    loader = context.config_loader
    assert isinstance(loader, OmegaConfigLoader)  # noqa: S101 - what settings.py configures
    commit = git_tags(Path(run_params["project_path"]))
    return RunFacts(
        command=command_of(run_params),
        git_commit=commit.get("git_commit") if "git_dirty" in commit else None,
        git_changed=commit.get("git_dirty") == "true",
        machine=machine(),
        versions={"Python": platform.python_version(), **{one: version(one) for one in PACKAGES}},
        changed=tuple(changed_settings(settings_in_files(loader), loader["parameters"], groups)),
    )


def settings_in_files(loader: OmegaConfigLoader, env: str | None = None) -> dict[str, Any]:
    """What the files of `conf/base` say, and of an environment where one is named."""
    as_base = {
        **settings.CONFIG_LOADER_ARGS,
        "default_run_env": settings.CONFIG_LOADER_ARGS["base_env"],
    }
    return dict(OmegaConfigLoader(loader.conf_source, env=env, **as_base)["parameters"])


def command_of(run_params: Mapping[str, Any]) -> str:
    """The command that does what a run does, as it is typed, without credentials."""
    words = ["kedro", "run"]
    if run_params.get("env"):
        words.append(f"--env={run_params['env']}")
    for key, option in OPTIONS.items():
        names = run_params.get(key)
        if names:
            words.append(f"{option}={','.join(names)}")
    if run_params.get("only_missing_outputs"):
        words.append("--only-missing-outputs")
    given = dict(_flat(run_params.get("runtime_params") or {}))
    if given:
        words += ["--params", ",".join(f"{name}={_typed(value)}" for name, value in given.items())]
    return redacted(shlex.join(words))


def git_tags(root: Path) -> dict[str, str]:
    """The commit that the code is of, and whether it was changed since."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603

    try:
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": str(bool(git("status", "--porcelain"))).lower(),
        }
    except (OSError, subprocess.CalledProcessError):
        return {"git_commit": "unknown"}


def machine() -> str:
    """This machine's processor, cores, memory and system."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    processor = (named or [platform.machine()])[0]
    return f"{processor}, {cores} cores, {memory:.0f} GiB, {platform.system()}"


def changed_settings(
    base: Mapping[str, Any], used: Mapping[str, Any], groups: set[str]
) -> Iterator[ChangedSetting]:
    """The settings in these groups that are not as in the base environment."""
    defaults = dict(_flat(base))
    for name, value in _flat(used):
        is_told = any(name == group or name.startswith(f"{group}.") for group in groups)
        if is_told and (name not in defaults or defaults[name] != value):
            default = json.dumps(defaults[name]) if name in defaults else None
            yield ChangedSetting(name=name, default=default, used=redacted(json.dumps(value)))


def _flat(group: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by their full names."""
    for name, value in group.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _typed(value: Any) -> str:
    """A value as `--params` reads it."""
    return value if isinstance(value, str) else json.dumps(value)
