import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.hooks.preflight import PreflightError
from tests.records import content_of

PROJECT = Path(__file__).parents[2]
SAMPLE = Path(
    os.environ.get("AVAZU_X4_SAMPLE", PROJECT.parent / "shared" / "data" / "avazu_x4_sample")
)
TIME_FIELDS = ("hour", "weekday", "weekend")


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, finished_run: Path, run_here: Callable[..., None]
) -> Path:
    """A project after a default run, then preprocess_all, of the test environment."""
    project = tmp_path_factory.mktemp("preprocess_all") / "project"
    shutil.copytree(finished_run, project, ignore=shutil.ignore_patterns("mlartifacts"))
    run_here(project, "preprocess_all")
    return project


def read_json(project: Path, name: str) -> dict[str, Any]:
    return content_of(project / "data" / name)


def read_map(project: Path, dataset: str) -> FeatureMap:
    return FeatureMap.from_json(read_json(project, f"04_feature/{dataset}/feature_map.json"))


def read_encoded(project: Path, dataset: str, split: str) -> pa.Table:
    return pq.read_table(project / "data" / "05_model_input" / dataset / f"{split}.parquet")


def test_x4_is_what_preprocess_alone_makes_of_it(finished: Path, finished_run: Path) -> None:
    for folder in ("01_raw/generated_log", "04_feature/x4", "05_model_input/x4"):
        files = sorted((finished_run / "data" / folder).iterdir())
        assert len(files) >= 2
        for file in files:
            assert (finished / "data" / folder / file.name).read_bytes() == file.read_bytes()


def test_with_other_settings_x1_and_x2_are_not_kept(
    finished: Path, run_here: Callable[..., None]
) -> None:
    before = (finished / "data/05_model_input/x1/summary.json").read_bytes()
    run_here(finished, "preprocess_all", only_missing_outputs=True)
    with pytest.raises(PreflightError, match=r"recoded.x1 is to be recoded with other settings"):
        run_here(
            finished,
            "preprocess_all",
            params={"recoding": {"x1": {"seed": 7}}},
            only_missing_outputs=True,
        )
    assert (finished / "data/05_model_input/x1/summary.json").read_bytes() == before


def test_settings_of_what_is_not_recoded_do_not_matter(
    finished: Path, run_here: Callable[..., None], tmp_path: Path
) -> None:
    own = tmp_path / "own_x1"
    shutil.copytree(finished / "data/01_raw/recoded/x1", own)  # the files keep their times
    params = {"x1_raw_dir": str(own), "recoding": {"x1": {"seed": 7}}}
    run_here(finished, "preprocess_all", params=params, only_missing_outputs=True)


def test_the_summaries_name_the_map_that_their_ids_are_of(finished: Path) -> None:
    joint, x4 = read_map(finished, "joint"), read_map(finished, "x4")
    assert joint.extends == x4.fingerprint
    assert [extension.dataset for extension in joint.extensions] == ["x1", "x2"]
    for dataset in ("x1", "x2"):
        summary = read_json(finished, f"05_model_input/{dataset}/summary.json")
        assert (summary["dataset"], summary["feature_map"]) == (dataset, "joint")
        assert summary["fingerprint"] == joint.fingerprint
        assert summary["source"] == "generated log"
        own = read_map(finished, dataset)
        assert own.dataset == dataset
        assert own.fingerprint in {extension.fingerprint for extension in joint.extensions}
        assert own.extends is None
    assert read_json(finished, "05_model_input/x4/summary.json")["feature_map"] == "x4"


def test_ids_of_different_logs_are_apart_but_for_the_time(finished: Path) -> None:
    joint, x4 = read_map(finished, "joint"), read_map(finished, "x4")
    own = {dataset: read_map(finished, dataset) for dataset in ("x1", "x2")}
    for position, field in enumerate(joint.names):
        known = [x4.sizes[position] - 1, *(own[name].sizes[position] - 1 for name in own)]
        if field in TIME_FIELDS:
            assert joint.sizes[position] == max(known) + 1
            continue
        assert joint.sizes[position] == sum(known) + 1
        starts = {"x1": known[0], "x2": known[0] + known[1]}
        for dataset, start in starts.items():
            ids = read_encoded(finished, dataset, "train")[field]
            used = {*pc.unique(ids).to_pylist()} - {0}
            assert used == {*range(start + 1, start + own[dataset].sizes[position])}, field


def test_the_time_has_the_same_ids_in_every_log(finished: Path) -> None:
    vocabulary = pq.read_table(finished / "data/04_feature/joint/vocabulary.parquet").to_pylist()
    id_of: dict[tuple[str, str], set[int]] = {}
    for row in vocabulary:
        if row["field"] in TIME_FIELDS:
            id_of.setdefault((row["field"], row["value"]), set()).add(row["id"])
    assert len(id_of) == 24 + 7 + 2
    assert all(len(ids) == 1 for ids in id_of.values())


def test_fields_that_x1_lacks_are_unknown(finished: Path) -> None:
    encoded = read_encoded(finished, "x1", "test")
    for field in ("C21", "weekday", "weekend"):
        assert pc.unique(encoded[field]).to_pylist() == [0]
    assert pc.unique(encoded["hour"]).to_pylist() != [0]


def test_x2s_validation_rows_are_a_tenth_of_each_class_of_train(finished: Path) -> None:
    splits = read_json(finished, "05_model_input/x2/summary.json")["splits"]
    for label in (0, 1):
        counts = {
            split: sum(
                value == label for value in read_encoded(finished, "x2", split)["label"].to_pylist()
            )
            for split in SPLITS
        }
        assert counts["valid"] == round((counts["train"] + counts["valid"]) / 10)
    rows = [
        value
        for split in ("train", "valid")
        for value in read_encoded(finished, "x2", split)["row"].to_pylist()
    ]
    assert sorted(rows) == [*range(splits["train"]["rows"] + splits["valid"]["rows"])]


@pytest.mark.slow
def test_another_logs_training_rows_are_recoded(
    project: Path, run_here: Callable[..., None], finished: Path
) -> None:
    raw = project / "my_log"
    shutil.copytree(finished / "data" / "01_raw" / "generated_log", raw)
    run_here(project, "preprocess_all", params={"raw_dir": str(raw)})
    for dataset in ("x1", "x2"):
        summary = read_json(project, f"05_model_input/{dataset}/summary.json")
        assert summary["source"] == "re-encoded from x4's training rows"
        assert summary["best_auc"] is None
        assert sum(found["rows"] for found in summary["splits"].values()) == 2000
    # Folders of their own are read and left alone.
    given = {"x1_raw_dir": str(project / "given_x1"), "x2_raw_dir": str(project / "given_x2")}
    for dataset in ("x1", "x2"):
        shutil.copytree(finished / "data/01_raw/recoded" / dataset, project / f"given_{dataset}")
        (project / f"given_{dataset}" / "recoded_log.json").unlink()
    run_here(project, "preprocess_all", params={"raw_dir": str(raw), **given})
    summary = read_json(project, "05_model_input/x1/summary.json")
    assert summary["source"] == "given_x1"
    recoded = read_json(finished, "05_model_input/x1/summary.json")
    assert {split: found["rows"] for split, found in summary["splits"].items()} == {
        split: found["rows"] for split, found in recoded["splits"].items()
    }


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no sample of Avazu at {SAMPLE}")
def test_real_rows_go_through(project: Path, run_here: Callable[..., None]) -> None:
    run_here(project, "preprocess_all", params={"raw_dir": str(SAMPLE.resolve())})
    joint, x4 = read_map(project, "joint"), read_map(project, "x4")
    for dataset in ("x1", "x2"):
        summary = read_json(project, f"05_model_input/{dataset}/summary.json")
        assert sum(found["rows"] for found in summary["splits"].values()) == 16_000
        assert summary["source"] == "re-encoded from x4's training rows"
    assert all(size > own for size, own in zip(joint.sizes[:20], x4.sizes[:20], strict=True))
