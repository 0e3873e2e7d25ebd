"""Guards over the configuration, the registry and the start of a run."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project
from kedro.framework.project import pipelines as registered
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.validation.parameter_validator import ParameterValidator
from kedro.validation.type_extractor import TypeExtractor
from pydantic import BaseModel

from llm_ctr_pipeline.pipeline_registry import register_pipelines
from llm_ctr_pipeline.reporting.results import pipeline_of
from llm_ctr_pipeline.settings import CONFIG_LOADER_ARGS
from llm_ctr_pipeline.training.settings import PATHS

PROJECT = Path(__file__).parents[1]
ENVIRONMENTS = sorted(folder.name for folder in (PROJECT / "conf").iterdir() if folder.is_dir())
ENVIRONMENTS.remove("local")
# The folders of data/; Kedro-Viz orders by name what the flow leaves open.
LAYERS = {
    *("01_raw", "02_intermediate", "04_feature", "05_model_input"),
    *("06_models", "07_model_output", "08_reporting"),
}


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    configure_project("llm_ctr_pipeline")
    registered.set_requested(None)
    return register_pipelines()


def load(env: str, key: str) -> dict[str, Any]:
    """Read the configuration of an environment, without what lies in conf/local."""
    settings = {**CONFIG_LOADER_ARGS, "default_run_env": "base"}
    content: dict[str, Any] = OmegaConfigLoader(str(PROJECT / "conf"), env=env, **settings)[key]
    return content


def dataset_names(pipelines: dict[str, Pipeline]) -> list[str]:
    names = {name for pipeline in pipelines.values() for name in pipeline.datasets()}
    return sorted(name for name in names if not name.startswith("params:"))


def test_the_environments_are_found() -> None:
    assert {"base", "avazu", "test"} <= set(ENVIRONMENTS)


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_every_dataset_is_in_the_catalog_and_has_a_layer(
    env: str, pipelines: dict[str, Pipeline]
) -> None:
    catalog = DataCatalog.from_config(load(env, "catalog"))
    for name in dataset_names(pipelines):
        assert name in catalog, f"{name} is not in the catalog of {env}"
        dataset = catalog.get(name)
        assert dataset is not None
        layer = ((dataset.metadata or {}).get("kedro-viz") or {}).get("layer")
        assert layer in LAYERS, f"{name} has the layer {layer} in {env}"


def test_the_layers_of_each_pipeline_have_an_order(pipelines: dict[str, Pipeline]) -> None:
    """Kedro-Viz shows none where they have not."""
    catalog = DataCatalog.from_config(load("base", "catalog"))

    def layer(name: str) -> str:
        dataset = catalog.get(name)
        assert dataset is not None
        return str((dataset.metadata or {})["kedro-viz"]["layer"])

    for pipeline in pipelines.values():
        before: dict[str, set[str]] = {}
        for node in pipeline.nodes:
            inputs = {layer(name) for name in node.inputs if not name.startswith("params:")}
            for output in node.outputs:
                own = layer(output)
                before.setdefault(own, set()).update(inputs - {own})
        TopologicalSorter(before).prepare()  # raises where there is a cycle


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_no_catalog_entry_is_unused(env: str, pipelines: dict[str, Pipeline]) -> None:
    entries = load(env, "catalog")
    resolver = DataCatalog.from_config(entries).config_resolver
    names = dataset_names(pipelines)
    used = {name if name in entries else resolver.match_dataset_pattern(name) for name in names}
    assert set(entries) == used


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_parameters_are_valid_and_all_are_used(env: str, pipelines: dict[str, Pipeline]) -> None:
    parameters = load(env, "parameters")
    inputs = {name for pipeline in pipelines.values() for name in pipeline.inputs()}
    groups = {name.removeprefix("params:") for name in inputs if name.startswith("params:")}
    assert set(parameters) == {group.partition(".")[0] for group in groups}
    # A group without a type is handed to its node unchecked.
    assert set(TypeExtractor(pipelines).extract_types_from_pipelines()) == groups
    validated = ParameterValidator(pipelines).validate_raw_params(parameters)
    for group in groups:
        value: Any = validated
        for key in group.split("."):
            value = value[key]
        has_real_log = env not in {"base", "test"}
        assert isinstance(value, BaseModel) or (has_real_log and group == "generated_log"), group


def test_an_environment_changes_single_keys_of_a_group() -> None:
    base, test = load("base", "parameters"), load("test", "parameters")
    assert test["training"]["epochs"] != base["training"]["epochs"]
    assert test["training"]["patience"] == base["training"]["patience"]


def test_the_registry_holds_these_pipelines(pipelines: dict[str, Pipeline]) -> None:
    assert set(pipelines) == {
        "compare",
        "download",
        "preprocess",
        "preprocess_all",
        "train",
        "train_deepfm",
        "train_hybrid",
        "train_logistic_regression",
        "train_dcnv2",
        "train_finalmlp",
        "train_distilled",
        "train_two_phase",
        "train_two_phase_finetuned",
        "evaluate",
        "predict",
        "register",
        "export",
        "__default__",
    }
    both = {*pipelines["preprocess"].nodes, *pipelines["train"].nodes}
    assert set(pipelines["__default__"].nodes) == both


def test_every_metric_says_its_name_so_that_no_hook_need_look_through_the_catalog() -> None:
    metrics = [entry for name, entry in load("base", "catalog").items() if "metrics" in name]
    assert metrics
    assert all(entry.keys() & {"key", "prefix"} for entry in metrics)


def test_node_names_are_unique_and_readable(pipelines: dict[str, Pipeline]) -> None:
    for pipeline in pipelines.values():
        names = [node.name for node in pipeline.nodes]
        assert names
        assert len(set(names)) == len(names)
        for name in names:
            assert re.fullmatch(r"([a-z][a-z0-9]*(_[a-z0-9]+)*\.)?[a-z]+(_[a-z0-9]+)*", name), name


def test_what_preprocess_needs_imports_no_torch_and_sends_no_usage_data() -> None:
    script = """
import json, os, sys
from pathlib import Path
from kedro.framework.project import pipelines
from kedro.framework.startup import bootstrap_project
from kedro.framework.project import settings

bootstrap_project(Path.cwd())
pipelines.set_requested(["preprocess"])
facts = {
    "pipelines": sorted(pipelines),
    "hooks": len(settings.HOOKS),
    "heavy": sorted({"torch", "lightning", "transformers"} & set(sys.modules)),
    "do_not_track": os.environ.get("DO_NOT_TRACK"),
}
print(json.dumps(facts))
"""
    env = {key: value for key, value in os.environ.items() if key != "DO_NOT_TRACK"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    facts = json.loads(done.stdout.splitlines()[-1])
    assert "preprocess" in facts["pipelines"]
    assert "train" not in facts["pipelines"]
    assert facts["hooks"] == 8
    assert facts["heavy"] == []
    assert facts["do_not_track"] == "true"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pipeline=preprocess"], "the first node"),
        (["--params", "trainin.lr=0.001"], "did you mean training?"),
        (["--pipeline=preproces"], "did you mean preprocess?"),
    ],
    ids=["a run without a model", "a refused setting", "a refused pipeline"],
)
def test_nothing_waits_for_what_it_does_not_need(
    project: Path, arguments: list[str], said: str
) -> None:
    script = f"""
import atexit, sys
from kedro.framework.cli.cli import main
from kedro.runner import SequentialRunner

def run(*_, **__):
    sys.exit("the first node")

def tell():
    heavy = {{"lightning", "scipy.stats", "sklearn", "torch", "transformers"}}
    print(sorted(heavy & {{*sys.modules}}))

SequentialRunner.run = run
atexit.register(tell)
sys.argv = ["kedro", "run", "--env", "test", *{arguments}]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=project, capture_output=True, text=True, check=False
    )
    assert said in done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_make_starts_sends_no_usage_data() -> None:
    env = {key: value for key, value in os.environ.items() if key != "DO_NOT_TRACK"}
    done = subprocess.run(
        ["make", "--no-print-directory", "--eval", "shown: ; @echo $$DO_NOT_TRACK", "shown"],  # noqa: S607
        cwd=PROJECT,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "true"


@pytest.mark.parametrize(
    ("target", "tools"), [("run", False), ("compare", False), ("lint", True), ("slow", True)]
)
def test_only_who_develops_installs_the_tools_for_it(
    tmp_path: Path, target: str, tools: bool
) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target, f"VENV={tmp_path / 'venv'}"],  # noqa: S607
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "-c constraints.txt -e .\n" in done.stdout
    assert ('-e ".[dev]"' in done.stdout) == tools


@pytest.mark.parametrize("seeds", [1, 2])
def test_make_compare_trains_every_path_with_every_seed(tmp_path: Path, seeds: int) -> None:
    kedro = tmp_path / "bin" / "kedro"
    kedro.parent.mkdir()
    kedro.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n[ "$FAIL" != "$2" ]\n')
    kedro.chmod(0o755)
    (tmp_path / ".installed").touch()
    command = ["make", "compare", f"VENV={tmp_path}", f"SEEDS={seeds}"]

    def calls(fail: str = "") -> list[str]:
        (tmp_path / "calls").unlink(missing_ok=True)
        env = {**os.environ, "FAIL": fail}
        done = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, check=False)
        assert (done.returncode == 0) == (not fail)
        return (tmp_path / "calls").read_text().splitlines()

    first, *trained, last = calls()
    assert first == "run --pipeline=preprocess_all"
    assert last == "run --pipeline=compare" + ("" if seeds == 1 else " --params compare.seeds=2")
    options = [""] if seeds == 1 else [f" --params training.seed={seed}" for seed in (43, 42)]
    for place, option in enumerate(options):
        of_seed = trained[place * len(PATHS) : (place + 1) * len(PATHS)]
        expected = {f"run --pipeline={pipeline_of(path)}{option}" for path in PATHS}
        assert {*of_seed} == expected
        assert of_seed[0] == f"run --pipeline=train_deepfm{option}"  # others start from it
    assert len(trained) == seeds * len(PATHS)
    assert calls(fail="--pipeline=train")[-1].startswith("run --pipeline=train")


def test_telemetry_is_declined_where_it_is_committed() -> None:
    assert yaml.safe_load((PROJECT / ".telemetry").read_text()) == {"consent": False}
    assert ".telemetry" not in (PROJECT / ".gitignore").read_text()
    assert "project_id" not in (PROJECT / "pyproject.toml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--pipeline=preprocess", "--pipelines=preprocess"])
def test_both_spellings_of_the_pipeline_option_work(
    project: Path, kedro_run: Callable[..., subprocess.CompletedProcess[str]], option: str
) -> None:
    done = kedro_run(project, "--env", "test", option)
    assert done.returncode == 0, done.stderr
    assert (project / "data" / "05_model_input" / "x4" / "summary.json").exists()
    assert not (project / "data" / "06_models").exists()
