"""Fixtures that more than one folder of tests uses."""

import contextlib
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import fsspec
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from mlflow import MlflowClient
from mlflow.entities import Run
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from llm_ctr_pipeline.data.input.batches import EncodedSplit
from llm_ctr_pipeline.data.log.derived_fields import field_value
from llm_ctr_pipeline.data.log.schema import ROW, LogSchema
from llm_ctr_pipeline.metrics.classification import classification_metrics
from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.models.llm_decoder import LlmDecoder
from llm_ctr_pipeline.models.prompt import PromptTokens
from llm_ctr_pipeline.models.settings import LlmCtrSettings, TermsSettings
from llm_ctr_pipeline.reporting.evaluation import Evaluation, share_of_best
from llm_ctr_pipeline.reporting.results import ModelReport, ScoredModel, digest_of_predictions
from llm_ctr_pipeline.training.history import (
    Provenance,
    StageSummary,
    StageValidation,
    TrainedOn,
    TrainingResults,
    ValidationRecord,
)
from tests import spark, webhdfs
from tests.records import RAN

# Tiny tensors are faster on one thread than on several.
torch.set_num_threads(1)

# --- data ---------------------------------------------------------------------------------------

Normalise = Callable[[ir.Table, LogSchema], ir.Table]


@pytest.fixture(scope="session")
def normalise() -> Normalise:
    """Name label and fields of a split's raw rows as the unified schema does, and derive the rest.

    `row` is the position in the raw file.
    """

    def make(table: ir.Table, schema: LogSchema) -> ir.Table:
        return table.select(
            row=table[ROW],
            label=table[schema.label].cast("int8"),
            **{field.name: field_value(table, field, schema) for field in schema.fields},
        )

    return make


# --- models and training ------------------------------------------------------------------------

VOCABULARY = 40
FIELD_SIZES = (3, 5, 4)
# A token comes twice, and an answer's token is in the prompt too: with tied embeddings its
# gradient has three parts.
TOKENS = PromptTokens(prompt=(5, 9, 2, 16, 9, 14), suffix=(), answers=(15, 16))

_SPECIAL = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
_LATER = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "qwen3": {**_LATER, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True},
    "llama": {**_LATER, "num_key_value_heads": 4, "tie_word_embeddings": False},
    "mistral": {**_LATER, "num_key_value_heads": 2, "head_dim": 8},
    "gemma": {**_LATER, "num_key_value_heads": 1, "head_dim": 8},
    "gemma2": {**_LATER, "num_key_value_heads": 2, "head_dim": 8},
    "phi": {**_LATER},
    "cohere": {**_LATER, "num_key_value_heads": 2},
    "granite": {**_LATER, "num_key_value_heads": 2, "logits_scaling": 4.0},
    "gpt2": {**_GPT, "attn_pdrop": 0.0},
    "gptj": {**_GPT, "attn_pdrop": 0.0, "rotary_dim": 4},
}


@pytest.fixture(scope="session")
def make_causal_lm() -> Callable[..., PreTrainedModel]:
    """Build a tiny causal language model; no weight is 0 or 1, so that each one matters."""

    def make(architecture: str = "qwen3", **changes: Any) -> PreTrainedModel:
        settings = {"vocab_size": VOCABULARY, **_SPECIAL, **ARCHITECTURES[architecture], **changes}
        torch.manual_seed(0)
        config = AutoConfig.for_model(architecture, **settings)
        causal_lm = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in causal_lm.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return causal_lm.eval()

    return make


@pytest.fixture(scope="session")
def make_model(make_causal_lm: Callable[..., PreTrainedModel]) -> Callable[..., LlmCtr]:
    """Build a tiny model, around a language model that it consumes."""

    def make(
        causal_lm: PreTrainedModel | None = None,
        tokens: PromptTokens = TOKENS,
        field_sizes: tuple[int, ...] = FIELD_SIZES,
        terms: TermsSettings | None = None,
        **model: Any,
    ) -> LlmCtr:
        decoder = LlmDecoder.from_causal_lm(causal_lm or make_causal_lm(), tokens)
        settings = LlmCtrSettings(
            embedding_dim=4,
            embedding_init_std=0.5,
            gen_gamma=6.0,
            projector_dim=8,
            prompt="a prompt",
            prompt_suffix="",
            **model,
        )
        torch.manual_seed(1)
        return LlmCtr(settings, field_sizes, decoder, terms)

    return make


@pytest.fixture(scope="session")
def make_split() -> Callable[..., EncodedSplit]:
    """Draw rows whose label the first field's id says, but for a share of `noise`."""

    def make(
        rows: int, seed: int, noise: float = 0.0, field_sizes: tuple[int, ...] = FIELD_SIZES
    ) -> EncodedSplit:
        generator = torch.Generator().manual_seed(seed)
        columns = [torch.randint(0, size, (rows,), generator=generator) for size in field_sizes]
        flipped_N = torch.rand(rows, generator=generator) < noise
        labels_N = (columns[0] == 1) ^ flipped_N
        return EncodedSplit(torch.stack(columns, dim=1).int(), labels_N.float())

    return make


# --- comparison ---------------------------------------------------------------------------------

VALIDATION: dict[str, Any] = {
    **{"epoch": 1.0, "step": 469, "train_loss": 0.4, "train_accuracy": 83.0, "valid_loss": 0.39},
    **{"valid_accuracy": 83.1, "valid_auc": 0.7, "valid_logloss": 0.39, "seconds": 10.0},
    **{"lr": 5e-4, "rows_per_second": 3000.0, "improved": True},
}


@pytest.fixture(scope="session")
def make_scored() -> Callable[..., list[ScoredModel]]:
    """Draw the tests of models of these paths on the same rows, each noisier than the one before.

    With `best_possible` None the rows are those of a log that was not generated.
    """

    def make(
        *paths: str, rows: int = 500, seed: int = 0, best_possible: float | None = 0.8
    ) -> list[ScoredModel]:
        rng = np.random.default_rng(seed)
        truth = rng.normal(-1.5, 1.2, rows)
        labels = (rng.random(rows) < 1 / (1 + np.exp(-truth))).astype(np.int8)
        models = []
        for place, path in enumerate(paths):
            score = truth + 0.4 * (place + 1) * rng.normal(size=rows)
            probabilities = (1 / (1 + np.exp(-score))).astype(np.float32)
            best = ValidationRecord(**VALIDATION)
            trained = Provenance(
                **{"path": path, "stage": "end_to_end", "dataset": "x4", "source": "avazu_x4"},
                **{"seed": 7 + place, "best": best, "origin": None},
            )
            metrics = classification_metrics(labels, probabilities)
            evaluation = Evaluation(
                **{"path": path, "model": "best_model", "dataset": "x4", "split": "test"},
                **metrics.to_json(),
                **{"loss": metrics.logloss, "best_possible_auc": best_possible},
                share_of_best=share_of_best(metrics.auc, best_possible),
                **{"group_by": None, "gauc": None, "gauc_rows": None},
                source="generated log" if best_possible else "avazu_x4",
                **{"data_fingerprint": "f00d", "feature_map_fingerprint": "cafe"},
                checkpoint="c0de",
                predictions=digest_of_predictions(
                    pd.DataFrame({"label": labels, "probability": probabilities})
                ),
                **{"trained": trained, "timestamp": "2026-01-01T00:00:00+00:00"},
            )
            stage = StageSummary(
                **{"stage": "end_to_end", "dataset": "x4"},
                trained_on=TrainedOn(rows="f00d", feature_map="cafe"),
                **{"components": None, "trained_parameters": 10**5, "stopped_early": False},
                **{"best": best, "seconds": 10.0 * 4**place, "losses": (), "ran": RAN},
            )
            training = TrainingResults(
                **{"path": path, "dataset": "x4", "source": "avazu_x4", "seed": 7 + place},
                settings=f"{place:064}",
                **{"stopped_early": False, "best": best, "seconds": 10.0 * 4**place},
                **{"rows_per_second": 3000.0 / 4**place, "parameters": 10**5 * (place + 1)},
                **{"trained_parameters": 10**5, "stages": (stage,)},
                epochs=(
                    StageValidation(stage="end_to_end", dataset="x4", **VALIDATION, best=True),
                ),
            )
            report = ModelReport(path, evaluation, training)
            models.append(ScoredModel(report, labels, probabilities))
        return models

    return make


# --- stores -------------------------------------------------------------------------------------


@pytest.fixture(scope="session", params=["memory", "webhdfs", "s3a"])
def store_root(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a store of each kind: flat, with folders, and one that only copies."""
    if request.param == "memory":
        yield "memory://store"
    elif request.param == "webhdfs":
        with webhdfs.served(tmp_path_factory.mktemp("hdfs")) as address:
            yield address
    else:
        from moto.server import ThreadedMotoServer

        served = ThreadedMotoServer("127.0.0.1", port=0)
        served.start()
        host, port = served.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        with mock.patch.dict(os.environ, keys, AWS_ENDPOINT_URL=f"http://{host}:{port}"):
            fsspec.filesystem("s3").mkdir("bucket")
            yield "s3a://bucket"
        served.stop()


@pytest.fixture
def store(store_root: str, tmp_path: Path) -> str:
    """The address of a folder on a store that is not there yet."""
    return f"{store_root}/{tmp_path.name}"


# --- Spark --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def pyspark_folder() -> Path | None:
    """A folder to import PySpark from; None where it is installed."""
    return spark.provide_pyspark()


@pytest.fixture
def with_pyspark(monkeypatch: pytest.MonkeyPatch, pyspark_folder: Path | None) -> None:
    """Let the processes that a test starts import PySpark."""
    if pyspark_folder is not None:
        monkeypatch.setenv("PYTHONPATH", str(pyspark_folder), prepend=os.pathsep)


# --- whole runs ---------------------------------------------------------------------------------

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def make_project() -> Callable[[Path], Path]:
    """Copy the configuration into a folder: enough of a project, as the package is installed."""

    def make(folder: Path) -> Path:
        ignored = shutil.ignore_patterns("local")  # the user's own settings
        shutil.copytree(PROJECT / "conf", folder / "conf", ignore=ignored)
        shutil.copy(PROJECT / "pyproject.toml", folder)
        (folder / "conf" / "local").mkdir()
        (folder / "src").mkdir()
        return folder

    return make


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_project: Callable[[Path], Path]
) -> Path:
    """A project in which nothing ran yet, and the working directory."""
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


@pytest.fixture(scope="session")
def run_here() -> Callable[..., None]:
    """Run pipelines in a project in this process, and leave the process as it was."""

    def run(
        folder: Path,
        *pipeline_names: str,
        env: str = "test",
        params: dict[str, Any] | None = None,
        only_missing_outputs: bool = False,
    ) -> None:
        on_sigterm = signal.getsignal(signal.SIGTERM)
        with (
            mock.patch.dict(os.environ),
            mock.patch.object(sys, "path", sys.path[:]),
            contextlib.chdir(folder),
        ):
            os.environ.pop("MLFLOW_TRACKING_URI", None)
            try:
                bootstrap_project(folder)
                with KedroSession.create(folder, env=env, runtime_params=params) as session:
                    session.run(
                        pipeline_names=list(pipeline_names) or None,
                        only_missing_outputs=only_missing_outputs,
                    )
            finally:
                signal.signal(signal.SIGTERM, on_sigterm)

    return run


@pytest.fixture(scope="session")
def kedro_run() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call `kedro run` in a project as a user does; lines are not wrapped."""

    def call(folder: Path, *arguments: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kedro", "run", *arguments]
        changes = {"COLUMNS": "1000", "OMP_NUM_THREADS": str(threads)}
        env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        return subprocess.run(
            command, cwd=folder, env=env | changes, capture_output=True, text=True, check=False
        )

    return call


@pytest.fixture(scope="session")
def finished_run(
    tmp_path_factory: pytest.TempPathFactory,
    make_project: Callable[[Path], Path],
    run_here: Callable[..., None],
) -> Path:
    """A project after one default run of the test environment; only to be read."""
    folder = make_project(tmp_path_factory.mktemp("finished_run"))
    run_here(folder)
    return folder


@pytest.fixture
def trained_project(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project after its run, to run in and to spoil, and the working directory."""
    folder = tmp_path / "trained"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("mlartifacts"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training loss is no number."""
    loss = F.binary_cross_entropy_with_logits
    monkeypatch.setattr(F, "binary_cross_entropy_with_logits", lambda *of: loss(*of) * math.nan)


@pytest.fixture(scope="session")
def mlflow_runs() -> Callable[[Path], list[Run]]:
    """The MLflow runs of a project, the oldest first."""

    def search(folder: Path) -> list[Run]:
        if not (folder / "mlflow.db").exists():
            return []
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))

    return search
