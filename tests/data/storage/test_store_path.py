"""Paths on stores; each test runs on every kind of store at hand."""

import time
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llm_ctr_pipeline.data.errors import StoreError
from llm_ctr_pipeline.data.storage.store_path import (
    SUCCESS,
    StorePath,
    changed_at,
    is_whole,
    parquet_table,
    parse_path,
    parts_of,
    remove,
)


@pytest.mark.parametrize(
    "address",
    [
        "hdfs://name-node:8020/lake/x4/train.parquet",
        "hdfs:///lake/x4/train.parquet",
        "webhdfs://127.0.0.1:9870/lake/x4/train.parquet",
        "memory://lake/x4/train.parquet",
    ],
)
def test_an_address_stays_what_spark_reads(address: str) -> None:
    path = parse_path(address)
    assert str(path) == address
    assert path == parse_path(f"{address}/")
    assert str(path.parent / "valid.parquet") == address.replace("train", "valid")
    assert path.name == "train.parquet"


def test_the_folders_above_end_below_the_store() -> None:
    above = [str(path) for path in StorePath("hdfs://node/a/b/c.json").parents]
    assert above == ["hdfs://node/a/b", "hdfs://node/a"]
    assert [str(path) for path in StorePath("hdfs:///a/b").parents] == ["hdfs:///a"]


def test_what_is_on_this_machine_is_a_path(tmp_path: Path) -> None:
    assert parse_path("data/01_raw") == Path("data/01_raw")
    assert parse_path(f"file://{tmp_path}") == tmp_path
    assert parse_path(str(tmp_path / "a:b")) == tmp_path / "a:b"


def test_a_store_without_a_driver_is_refused() -> None:
    with pytest.raises(StoreError, match=r"nfs4://host/a cannot be reached: .* knows no 'nfs4'"):
        parse_path("nfs4://host/a")
    hint = "Install lackingfs to access it"
    fsspec.register_implementation("lacking", "lackingfs.FileSystem", clobber=True, errtxt=hint)
    with pytest.raises(StoreError, match=f"lacking://a/b cannot be reached .*: {hint}"):
        parse_path("lacking://a/b")


def test_a_file_is_written_and_read(store: str) -> None:
    file = parse_path(store) / "folder" / "ä.txt"
    assert not file.exists()
    file.write_text("one\r\ntwo é\n", encoding="utf-8")
    assert (file.is_file(), file.is_dir(), file.parent.is_dir()) == (True, False, True)
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        assert [*lines] == ["one\r\n", "two é\n"]
    assert file.read_text(encoding="utf-8").endswith("é\n")
    assert file.stat().st_size == len("one\r\ntwo é\n".encode())
    remove(parse_path(store))
    assert not file.exists()
    assert not parse_path(store).exists()


def test_a_later_change_has_a_later_time(store: str) -> None:
    first, second = parse_path(store) / "1", parse_path(store) / "2"
    first.write_text("1", encoding="utf-8")
    time.sleep(1.1)  # S3 keeps whole seconds
    second.write_text("2", encoding="utf-8")
    assert changed_at(first) < changed_at(second)
    assert abs(changed_at(second) - time.time_ns()) < 60e9


def test_what_another_program_writes_is_seen(store: str) -> None:
    """Spark writes behind the back of the driver's cache."""
    folder = parse_path(store)
    (folder / "a").write_text("a", encoding="utf-8")
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert not (folder / "b").exists()
    other = type(folder.fs)(**folder.fs.storage_options, skip_instance_cache=True)
    with other.open((folder / "b").inner, "wb") as file:
        file.write(b"b")
    assert (folder / "b").exists()
    assert [path.name for path in folder.iterdir()] == ["a", "b"]


def test_a_folder_is_whole_with_its_marker_alone(store: str) -> None:
    folder = parse_path(store) / "train.parquet"
    (folder / "part-0.parquet").write_text("", encoding="utf-8")
    assert folder.exists()
    assert not is_whole(folder)
    (folder / SUCCESS).write_text("", encoding="utf-8")
    assert is_whole(folder)
    assert changed_at(folder) == (folder / SUCCESS).stat().st_mtime_ns
    assert is_whole(folder / "part-0.parquet")


def test_a_table_in_parts_is_read_in_their_order(store: str) -> None:
    folder = parse_path(store) / "table.parquet"
    for number in (1, 0, 2):
        with (folder / f"part-{number}.parquet").open("wb") as file:
            pq.write_table(pa.table({"n": [number], "other": [""]}), file)
    (folder / SUCCESS).write_text("", encoding="utf-8")
    assert [part.name for part in parts_of(folder)] == [f"part-{n}.parquet" for n in range(3)]
    assert parquet_table(folder, ["n"]).to_pydict() == {"n": [0, 1, 2]}
    assert parquet_table(folder / "part-1.parquet", ["n"]).to_pydict() == {"n": [1]}
