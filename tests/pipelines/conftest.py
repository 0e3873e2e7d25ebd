"""What the tests of training and of evaluation share: a catalog in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ibis
import pyarrow.parquet as pq
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, MemoryDataset

from llm_ctr_pipeline.data.features.dataset_summary import DatasetSummary
from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.input.encoded_file import EncodedFile
from llm_ctr_pipeline.data.raw.manifest import RawLog
from llm_ctr_pipeline.data.storage.record_text import from_text
from llm_ctr_pipeline.frozen import Frozen
from llm_ctr_pipeline.models.settings import LlmCtrSettings, LlmSettings, TermsSettings
from llm_ctr_pipeline.params import EvaluationParams
from llm_ctr_pipeline.reporting.results import ScoredModel
from llm_ctr_pipeline.settings import CONFIG_LOADER_ARGS
from llm_ctr_pipeline.training.settings import Stages, TrainingSettings
from tests.pipelines.compared import write
from tests.records import FACTS

Make = Callable[..., list[ScoredModel]]
TYPES = {"model": LlmCtrSettings, "llm": LlmSettings, "training": TrainingSettings}


class KeptDataset(MemoryDataset):
    """Data in memory that stay after the last node that reads them."""

    def _release(self) -> None:
        pass


def read(record: type[Frozen], file: Path) -> Frozen:
    return from_text(record, file.read_bytes())


@pytest.fixture(scope="session")
def make_catalog(finished_run: Path) -> Callable[..., DataCatalog]:
    """Put the finished run's encoded splits and the test environment's parameters in memory."""
    loader = OmegaConfigLoader(str(finished_run / "conf"), env="test", **CONFIG_LOADER_ARGS)
    parameters = loader["parameters"]
    data = finished_run / "data"
    content: dict[str, Any] = {
        "vocabulary": ibis.memtable(pq.read_table(data / "04_feature/x4/vocabulary.parquet")),
        "feature_map": read(FeatureMap, data / "04_feature/x4/feature_map.json"),
        "raw_log": read(RawLog, data / "02_intermediate/x4/raw_log.json"),
        "summary": read(DatasetSummary, data / "05_model_input/x4/summary.json"),
    }
    for split in ("train", "valid", "test"):
        content[f"{split}_encoded"] = EncodedFile(data / f"05_model_input/x4/{split}.parquet")

    def make(
        outputs: set[str], state_folder: Path, split: str = "test", **training: Any
    ) -> DataCatalog:
        typed: dict[str, Any] = {name: type_(**parameters[name]) for name, type_ in TYPES.items()}
        typed["training"] = TrainingSettings(**(parameters["training"] | training))
        evaluation = EvaluationParams(**(parameters["evaluation"] | {"split": split}))
        entries = content | {
            "single_phase.state_folder": state_folder,
            "params:single_phase.evaluation": evaluation,
            "params:single_phase.stages": Stages(parameters["single_phase"]["stages"]),
            "params:single_phase.terms": TermsSettings(**parameters["single_phase"]["terms"]),
            "params:evaluation": evaluation,
            "run_facts": FACTS,
            **{f"params:{name}": value for name, value in typed.items()},
        }
        datasets = {name: MemoryDataset(value, "assign") for name, value in entries.items()}
        kept = {name: KeptDataset(copy_mode="assign") for name in outputs}
        return DataCatalog(datasets=datasets | kept)

    return make


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, bytes]]:
    """Read all that training and testing wrote, to see whether any byte of it changes."""

    def read(project: Path) -> dict[str, bytes]:
        folders = [project / "data" / name for name in ("06_models", "07_model_output")]
        files = [
            file
            for folder in (*folders, project / "data" / "08_reporting")
            for file in folder.rglob("*")
            if file.is_file() and file.name != "mlflow_run.json"  # the log's, not the training's
        ]
        assert len(files) > 10
        return {str(file.relative_to(project)): file.read_bytes() for file in files}

    return read


@pytest.fixture
def results(project: Path, make_scored: Make) -> Callable[..., Path]:
    """Give the project results of paths, all on the same rows."""

    def make(*paths: str) -> Path:
        for model in make_scored(*paths):
            path = model.report.path
            data = project / "data"
            write(model, data / "07_model_output" / path, data / "08_reporting" / path)
        return project

    return make
