"""Which of the decoder's settings earn their place: trainings of many variants, several seeds each.

    python -m benchmarks.study movielens_100k --raw FOLDER
    python -m benchmarks.study avazu_x4 --raw FOLDER --rows "+ plateau" "+ L2" --seeds 42 43 44

Each training is the `kedro run` that a user would type, in a project folder of its own below
`--work`, of which the results are kept: what was trained is not trained again. Two run at a time,
a thread each. The table sets the variants beside DeepFM on the test rows, by the compare pipeline's
own comparison; which is best is said by the validation rows. docs/study.md is made of these tables.
"""

import argparse
import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from rich.console import Console

from llm_ctr_pipeline import given_params
from llm_ctr_pipeline.cli import types_of_settings
from llm_ctr_pipeline.reporting.comparison import Comparison, compare_models
from llm_ctr_pipeline.reporting.results import (
    ScoredModel,
    find_path,
    model_names,
    pipeline_of,
    scored,
)

PROJECT = Path(__file__).parents[1]
BASELINE = "DeepFM"
# What preprocessing leaves for all trainings of a log.
INPUTS = ("02_intermediate", "04_feature", "05_model_input")
console = Console(width=140)

Params = dict[str, str]

# What the defaults were before the recipe; every row says all of what they were changed to.
TODAY: Params = {
    "training.epochs": "100",
    "training.patience": "2",
    "training.batch_size": "128",
    "training.lr": "5e-4",
    "training.encoder_lr": "1e-3",
    "training.lr_schedule": "constant",
    "training.embedding_l2": "0",
    "training.gradient_clip_norm": "null",
    "training.weight_decay": "0.01",
    "model.field_vectors": "false",
    "model.projector_per_field": "false",
    "model.embedding_beside_gen": "false",
    "model.embedding_dropout": "0",
    "model.token_dropout": "0",
    "model.projector_dropout": "0",
    "training.label_smoothing": "0",
    "training.id_dropout": "0",
    "training.redraw_embeddings": "false",
}
RECIPE: Params = {
    "training.gradient_clip_norm": "10",
    "training.weight_decay": "0",
    "training.lr": "1e-3",
    "training.encoder_lr": "1e-3",
}
PLATEAU: Params = {
    **RECIPE,
    "training.lr_schedule": "plateau",
    "training.lr_factor": "0.1",
}
COSINE: Params = {
    **RECIPE,
    "training.lr_schedule": "warmup_cosine",
    "training.epochs": "3",
}
FIELDS: Params = {
    "model.field_vectors": "true",
    "model.projector_per_field": "true",
    "model.embedding_beside_gen": "true",
}
DROPOUT: Params = {
    "model.embedding_dropout": "0.1",
    "model.projector_dropout": "0.1",
}
# The defaults of the base environment, whatever the log's own environment says.
DEFAULTS: Params = {
    "training.epochs": "5",
    "training.patience": "2",
    "training.batch_size": "256",
    "training.lr_schedule": "warmup_cosine",
    "training.embedding_l2": "0.01",
    "training.id_dropout": "0.1",
}
# A drop is smaller, and more of them are waited for.
PATIENT: Params = {"training.lr_factor": "0.5", "training.patience": "4"}
STRUCTURED = "\n".join(
    [
        "Task: click-through rate prediction.",
        "Input: one token for each field of a row, in a fixed order.",
        "Output: 1 for a click, 0 for none.",
        "Answer:",
    ]
)
# As many words as the environments' prompts have, drawn at random.
RANDOM = (
    "walnut seldom orbit 7 the quick of marble under 3 lantern because river not a copper is "
    "window of plenty 5 gentle harbour or with 9 velvet into stone by 1 for oak or 0 for elm:"
)


@dataclass(frozen=True)
class Log:
    """A log that is studied.

    Attributes:
        env: The Kedro environment.
        dataset: The data set's name.
        batch_size: Rows a step with the recipe.
        l2: The weight of the penalty.
    """

    env: str
    dataset: str
    batch_size: int
    l2: str


LOGS = {
    "movielens_100k": Log("movielens_100k", "movielens_100k", 512, "0.001"),
    "avazu_x4": Log("base", "x4", 128, "0.001"),
}


def rows_of(log: Log) -> dict[str, tuple[str, Params]]:
    """Of each row of the table the path and its settings."""
    batch = {"training.batch_size": str(log.batch_size), "training.embedding_l2": log.l2}
    plateau, cosine = TODAY | PLATEAU | batch, TODAY | COSINE | batch
    without_l2 = plateau | {"training.embedding_l2": "0"}
    layers = "llm.architecture.num_hidden_layers"

    def one(name: str, value: str) -> tuple[str, Params]:
        return "single_phase", {**cosine, name: value}

    return {
        BASELINE: ("deepfm", plateau),
        "logistic regression": ("logistic_regression", plateau),
        "DCNv2": ("dcnv2", plateau),
        "FinalMLP": ("finalmlp", plateau),
        "today": ("single_phase", TODAY),
        "plateau": ("single_phase", without_l2),
        "plateau, L2": ("single_phase", plateau),
        "plateau, L2, field identity": ("single_phase", plateau | FIELDS),
        "plateau, L2, field identity, dropout": ("single_phase", plateau | FIELDS | DROPOUT),
        "the same, hybrid": ("hybrid", plateau | FIELDS | DROPOUT),
        "patient plateau, DeepFM": ("deepfm", plateau | PATIENT),
        "patient plateau, FinalMLP": ("finalmlp", plateau | PATIENT),
        "patient plateau, hybrid": ("hybrid", plateau | FIELDS | DROPOUT | PATIENT),
        "defaults, DeepFM": ("deepfm", DEFAULTS),
        "defaults, DCNv2": ("dcnv2", DEFAULTS),
        "defaults, FinalMLP": ("finalmlp", DEFAULTS),
        "defaults": ("single_phase", DEFAULTS),
        "defaults, hybrid": ("hybrid", DEFAULTS),
        "cosine, L2": ("single_phase", cosine),
        "cosine, L2, a vector each field": one("model.field_vectors", "true"),
        "cosine, L2, a projector each field": one("model.projector_per_field", "true"),
        "cosine, L2, embedding beside GEN": one("model.embedding_beside_gen", "true"),
        "cosine, L2, ids dropped": one("training.id_dropout", "0.1"),
        "cosine, L2, embeddings redrawn": one("training.redraw_embeddings", "true"),
        "cosine, L2, 1 layer": one(layers, "1"),
        "cosine, L2, 4 layers": one(layers, "4"),
        "cosine, L2, frozen decoder": one("llm.freeze", "true"),
        "cosine, L2, random prompt": one("model.prompt", RANDOM),
        "cosine, L2, structured prompt": one("model.prompt", STRUCTURED),
    }


def text_of(params: Mapping[str, str]) -> str:
    """The text of `--params`."""
    return ",".join(f"{name}={value}" for name, value in params.items())


def command_of(log: Log, path: str, params: Mapping[str, str], raw: str = "FOLDER") -> str:
    """What a user types for a row."""
    env = "" if log.env == "base" else f" --env {log.env}"
    pipeline = pipeline_of(path)
    return f'kedro run{env} --pipeline={pipeline} --params "raw_dir={raw},{text_of(params)}"'


def make_project(folder: Path, inputs: Path | None) -> None:
    """Make a folder in which Kedro runs, with the inputs of another or none."""
    shutil.copytree(PROJECT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
    shutil.copy(PROJECT / "pyproject.toml", folder)
    for name in ("src", "conf/local", "data"):
        (folder / name).mkdir()
    if inputs is not None:
        for name in INPUTS:
            (folder / "data" / name).symlink_to(inputs / "data" / name)


def run(folder: Path, env: str, pipeline: str, text: str) -> None:
    """Run a pipeline in a project folder, as `kedro run --params TEXT` does."""
    with (
        (folder / "log.txt").open("w") as log,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        bootstrap_project(folder)
        pipelines.set_requested([pipeline])
        params = given_params.read(given_params.split(text), types_of_settings())
        with KedroSession.create(folder, env=env, runtime_params=params) as session:
            session.run(pipeline_names=[pipeline])  # type: ignore[call-arg]


def train(folder: Path, inputs: Path, log: Log, path: str, text: str) -> str:
    """Train and test a variant with a seed in a folder, unless that was done."""
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        make_project(folder, inputs)
        own = "tracking=false,training.keep_state_every=0"
        try:
            run(folder, log.env, pipeline_of(path), f"{text},{own}")
        except Exception as error:  # the others go on
            return f"{folder}: {error!r}"
        shutil.rmtree(folder / "data" / "06_models")
        (folder / "done").touch()
    return ""


def training_of(folder: Path, log: Log, path: str, name: str) -> ScoredModel | None:
    """What a training in a folder reached on the test rows."""
    data = folder / "data"
    found = find_path(
        data / "07_model_output" / path, data / "08_reporting" / path, log.dataset, "test"
    )
    if found is None:
        return None
    report, read_predictions = found
    return scored(type(report)(name, report.evaluation, report.training), read_predictions())


def table(comparison: Comparison, trainings: Mapping[str, Sequence[ScoredModel]]) -> str:
    """The table of the study, in Markdown; rows in the order of `trainings`."""
    models = {model.name: model for model in comparison.models}
    named = model_names([score.report for scores in trainings.values() for score in scores])
    lines = [
        f"| | validation AUC | test AUC | AUC − {BASELINE} [95%] | p, Holm | log loss | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, scores in trainings.items():
        model = models[named[scores[0].report.name]]
        valid = [score.report.training.best.valid_auc for score in scores]
        other = model.difference
        spread = f" ± {stdev(valid):.4f}" if len(valid) > 1 else ""
        seeds = f" ± {model.auc_seed_std:.4f}" if model.auc_seed_std is not None else ""
        difference = (
            "| "
            if other is None
            else (
                f"{other.auc:+.4f} [{other.auc_low:+.4f}, {other.auc_high:+.4f}] | "
                f"{other.p_value_holm:.3f}".replace("0.000", "<0.001")
            )
        )
        lines.append(
            f"| {name} | {mean(valid):.4f}{spread} | {model.auc:.4f}{seeds} | {difference} | "
            f"{model.logloss:.4f} | {model.training_seconds:.0f} s |".replace("-", "−")
        )
    return "\n".join(lines)


def main() -> None:
    """Train what is not trained yet, and print the commands and the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("log", choices=LOGS)
    parser.add_argument("--raw", type=Path, required=True, help="the raw log's folder")
    parser.add_argument("--rows", nargs="+", help="names of rows; all without")
    parser.add_argument("--seeds", nargs="+", default=["42", "43", "44"])
    parser.add_argument("--work", type=Path, default=Path("study"), help="where trainings are kept")
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    log, work = LOGS[asked.log], (asked.work / asked.log).resolve()
    chosen = {n: row for n, row in rows_of(log).items() if n in (asked.rows or rows_of(log))}
    raw = f"raw_dir={asked.raw.resolve()}"
    inputs = work / "preprocessed"
    if not (inputs / "done").exists():
        shutil.rmtree(inputs, ignore_errors=True)
        inputs.parent.mkdir(parents=True, exist_ok=True)
        make_project(inputs, None)
        run(inputs, log.env, "preprocess", f"{raw},tracking=false")
        (inputs / "done").touch()
    os.environ["KEDRO_LOGGING_CONFIG"] = str(PROJECT / "conf" / "logging.yml")
    places = {
        (name, seed): work / name.replace(" ", "_") / seed
        for seed in asked.seeds
        for name in chosen
    }
    with ProcessPoolExecutor(asked.workers, get_context("spawn")) as pool:
        futures = {
            place: pool.submit(
                train,
                folder,
                inputs,
                log,
                chosen[place[0]][0],
                text_of({**chosen[place[0]][1], "training.seed": place[1]}) + f",{raw}",
            )
            for place, folder in places.items()
        }
        for (name, seed), future in futures.items():
            console.print(f"{name}, seed {seed}: {future.result() or 'done'}")
    trainings: dict[str, list[ScoredModel]] = {}
    for (name, seed), folder in places.items():
        training = training_of(folder, log, chosen[name][0], f"{name} {seed}")
        if training is not None:
            trainings.setdefault(name, []).append(training)
    for name, (path, params) in chosen.items():
        console.print(f"{name}: {command_of(log, path, params)}", soft_wrap=True, markup=False)
    everything = [score for scores in trainings.values() for score in scores]
    first = trainings[BASELINE][0].report.name
    compared = table(compare_models(everything, first), trainings)
    console.print(compared, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
