import csv
import hashlib
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.avazu_shaped import COLUMNS, write_log
from benchmarks.preprocess import (
    CONTENDERS,
    check_same,
    compare,
    read_ours,
    read_pandas,
    run_ours,
    run_pandas,
)
from benchmarks.process_tree import measure
from llm_ctr_pipeline.data.synthetic.generated_log import AVAZU_COLUMNS

MIB = 2**20


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_has_avazus_columns_and_the_stated_numbers_of_values(tmp_path: Path) -> None:
    path = tmp_path / "train.csv"
    write_log(path, 20_000, seed=0)
    rows = read(path)
    assert list(rows[0]) == list(AVAZU_COLUMNS)
    assert len(rows) == 20_000
    assert sum(row["click"] == "1" for row in rows) / 20_000 == pytest.approx(0.17, abs=0.01)
    assert {len(row["device_ip"]) for row in rows} == {8}
    for column in COLUMNS:
        counts = Counter(row[column.name] for row in rows)
        assert 1 < len(counts) <= column.values
        most = counts.most_common(1)[0][1] / 20_000
        assert most >= column.null_share - 0.02
    # Columns are drawn apart: knowing one says nothing of the other.
    pairs = {(row["site_id"], row["app_id"]) for row in rows if row["site_domain"] != "8a365e43"}
    assert len(pairs) > 1000


def test_a_seed_gives_the_same_bytes_and_another_one_other_rows_of_the_same_log(
    tmp_path: Path,
) -> None:
    digests, codes = [], []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        path = tmp_path / name
        write_log(path, 30_000, seed)
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
        codes.append({row["site_category"] for row in read(path)})
    assert digests[0] == digests[1] != digests[2]
    assert codes[0] == codes[2]


@pytest.mark.slow
def test_our_vocabulary_is_pandas_vocabulary(tmp_path: Path) -> None:
    for seed, split in enumerate(("train", "valid", "test")):
        write_log(tmp_path / f"{split}.csv", 3000, seed)
    ours, theirs = tmp_path / "ours", tmp_path / "pandas"
    ours.mkdir()
    theirs.mkdir()
    run_ours(tmp_path, ours)
    run_pandas(tmp_path, theirs)
    found = read_ours(ours)
    assert {len(values) > 1 for values in found.values()} == {True}
    check_same(found, read_pandas(theirs), "pandas")
    found["device_ip"].add("ffffffff")
    with pytest.raises(AssertionError, match="1 values of device_ip are not in both"):
        check_same(found, read_pandas(theirs), "pandas")


@pytest.mark.slow
def test_a_comparison_leaves_no_files(tmp_path: Path) -> None:
    rows = compare(2000, 2, ["ours"], tmp_path)
    assert [(row["what"], row["rows"], row["runs"]) for row in rows] == [("ours", 2000, 2)]
    assert rows[0]["times ours"] == 1
    assert list(tmp_path.iterdir()) == []
    assert list(CONTENDERS) == ["ours", "FuxiCTR", "pandas"]


def test_memory_and_cpu_time_of_a_childs_child_count(tmp_path: Path) -> None:
    inner = "import time; held = b'1' * (200 << 20)\n"
    inner += "while time.process_time() < 1: pass\ntime.sleep(1)"
    # The one in between does not wait for its child, so the system adds up no CPU time of it.
    outer = f"""import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {inner!r}], stdout=subprocess.PIPE)
child.stdout.read()
os._exit(0)"""
    usage = measure([sys.executable, "-c", outer], {}, tmp_path)
    assert 200 * MIB < usage.peak_gib * 2**30 < 300 * MIB
    assert usage.cpu_seconds > 0.9


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the reason"):
        measure([sys.executable, "-c", "raise SystemExit('the reason')"], {}, tmp_path)
