import os
from collections import Counter
from pathlib import Path

import pytest
import yaml

from llm_ctr_pipeline.data.features.feature_map import FeatureMap
from llm_ctr_pipeline.data.log.schema import SPLITS
from llm_ctr_pipeline.data.synthetic.generated_log import AVAZU_FIELDS, GeneratedLogSettings
from llm_ctr_pipeline.params import PreprocessParams
from tests.pipelines.preprocessing import (
    GENERATED,
    PROJECT,
    make_raw,
    raw_rows,
    read_json,
    read_split,
    run_preprocess,
)

SAMPLE = Path(
    os.environ.get("AVAZU_X4_SAMPLE", PROJECT.parent / "shared" / "data" / "avazu_x4_sample")
)


def expected_ids(folder: Path, split: str, field: str, min_count: int) -> list[int]:
    """Number one raw field's values the slow way."""
    counts = Counter(row[field] for row in raw_rows(folder, "train"))
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0].encode()))
    kept = [value for value, count in ranked if count >= min_count]
    id_of = {value: id_ for id_, value in enumerate(kept, start=1)}
    return [id_of.get(row[field], 0) for row in raw_rows(folder, split)]


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_preprocess(tmp_path_factory.mktemp("project"), generated_log=GENERATED)


def test_the_generated_log_goes_through(generated: Path) -> None:
    raw_folder = generated / "01_raw" / "generated_log"
    manifest = read_json(raw_folder / "generated_log.json")
    raw_log = read_json(generated / "02_intermediate" / "x4" / "raw_log.json")
    feature_map = FeatureMap.from_json(
        read_json(generated / "04_feature" / "x4" / "feature_map.json")
    )
    summary = read_json(generated / "05_model_input" / "x4" / "summary.json")
    assert raw_log["source"] == summary["source"] == feature_map.fit_on.source == "generated log"
    assert raw_log["best_auc"] == summary["best_auc"] == manifest["best_auc"]
    assert summary["fingerprint"] == feature_map.fingerprint
    assert feature_map.names == (*AVAZU_FIELDS, "hour", "weekday", "weekend")
    assert feature_map.fit_on.fingerprint == raw_log["splits"]["train"]["fingerprint"]
    for split, rows in zip(SPLITS, (1000, 200, 300), strict=True):
        encoded = read_split(generated, split)
        assert summary["splits"][split]["rows"] == raw_log["splits"][split]["rows"] == rows
        assert summary["splits"][split]["clicks"] == sum(encoded["label"].to_pylist())
        unknown = sum(encoded[name].to_pylist().count(0) for name in feature_map.names)
        assert summary["splits"][split]["unknown_share"] == pytest.approx(unknown / rows / 24)


def test_encoded_splits_have_the_raw_order_and_the_maps_sizes(generated: Path) -> None:
    raw_folder = generated / "01_raw" / "generated_log"
    feature_map = FeatureMap.from_json(
        read_json(generated / "04_feature" / "x4" / "feature_map.json")
    )
    for split in SPLITS:
        encoded = read_split(generated, split)
        assert encoded.column_names == ["row", "label", *feature_map.names]
        assert [str(type_) for type_ in encoded.schema.types] == ["int64", "int8", *["int32"] * 24]
        assert encoded["row"].to_pylist() == list(range(encoded.num_rows))
        clicks = [int(row["click"]) for row in raw_rows(raw_folder, split)]
        assert encoded["label"].to_pylist() == clicks
        for field in ("site_id", "device_ip", "C18"):
            assert encoded[field].to_pylist() == expected_ids(raw_folder, split, field, 2)
        for name, size in zip(feature_map.names, feature_map.sizes, strict=True):
            ids = encoded[name].to_pylist()
            assert min(ids) >= 0
            assert max(ids) < size


def test_one_and_four_threads_give_the_same_bytes_of_ids(tmp_path: Path) -> None:
    tables = []
    for threads in (1, 4):
        data = run_preprocess(
            tmp_path / str(threads), generated_log=GENERATED, min_count=1, threads=threads
        )
        tables.append([read_split(data, split) for split in SPLITS])
    assert tables[0] == tables[1]


def test_a_raw_folder_is_read_and_left_alone(tmp_path: Path) -> None:
    raw = make_raw(tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in raw.iterdir()}
    data = run_preprocess(tmp_path / "project", raw, GENERATED)
    summary = read_json(data / "05_model_input" / "x4" / "summary.json")
    assert summary["source"] == "my_log"
    assert summary["best_auc"] is None
    assert {path.name: path.stat().st_mtime_ns for path in raw.iterdir()} == before
    assert not (data / "01_raw").exists()


def test_only_every_nth_row_is_taken(tmp_path: Path) -> None:
    raw = make_raw(tmp_path)
    data = run_preprocess(tmp_path / "project", raw, every_nth_row=2)
    summary = read_json(data / "05_model_input" / "x4" / "summary.json")
    for split, rows in zip(SPLITS, (30, 15, 15), strict=True):
        encoded = read_split(data, split)
        assert encoded["row"].to_pylist() == [*range(0, 2 * rows, 2)]
        assert summary["splits"][split]["rows"] == rows
        clicks = [int(row["click"]) for row in raw_rows(raw, split)[::2]]
        assert encoded["label"].to_pylist() == clicks


def test_the_shipped_parameters_are_valid() -> None:
    shipped = yaml.safe_load((PROJECT / "conf/base/parameters_preprocess.yml").read_text())
    assert PreprocessParams(**shipped["preprocess"]).min_count == 2
    assert GeneratedLogSettings(**shipped["generated_log"]).train_rows == 60_000


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no sample of Avazu at {SAMPLE}")
def test_a_real_sample_goes_through(tmp_path: Path) -> None:
    data = run_preprocess(tmp_path, SAMPLE)
    summary = read_json(data / "05_model_input" / "x4" / "summary.json")
    assert summary["source"] == SAMPLE.name
    for split in SPLITS:
        rows = raw_rows(SAMPLE, split)
        encoded = read_split(data, split)
        assert encoded["row"].to_pylist() == list(range(len(rows)))
        assert encoded["label"].to_pylist() == [int(row["click"]) for row in rows]
        for field in ("site_id", "device_ip", "C20"):
            assert encoded[field].to_pylist() == expected_ids(SAMPLE, split, field, 2)
