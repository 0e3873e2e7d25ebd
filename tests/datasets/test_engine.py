from collections.abc import Callable
from pathlib import Path

import ibis
import pytest
from kedro.io import DatasetError

from llm_ctr_pipeline.cli import refusal_in
from llm_ctr_pipeline.data.errors import StaleDataError
from llm_ctr_pipeline.datasets.ibis_parquet import IbisParquetDataset


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.parquet"
    dataset = IbisParquetDataset(str(path))
    assert not dataset.exists()
    dataset.save(ibis.memtable({"row": [0, 1], "id": ["1e5", "00012"]}))
    assert dataset.load().to_pyarrow().to_pydict() == {"row": [0, 1], "id": ["1e5", "00012"]}
    assert [file.name for file in path.parent.iterdir()] == ["table.parquet"]


def test_a_folder_exists_where_a_kill_left_it_moved_away(tmp_path: Path) -> None:
    (tmp_path / ".table.parquet-killed" / "replaced").mkdir(parents=True)
    assert IbisParquetDataset(str(tmp_path / "table.parquet")).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["table.parquet"]


def test_a_failed_save_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    dataset = IbisParquetDataset(str(path))
    dataset.save(ibis.memtable({"id": ["1"]}))
    before = path.read_bytes()
    values = ibis.memtable({"id": ["1"] * 200_000 + ["not a number"]})
    with pytest.raises(DatasetError, match="not a number"):
        dataset.save(values.mutate(id=values.id.cast("int32")))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["table.parquet"]


def test_a_table_can_replace_the_file_it_is_read_from(tmp_path: Path) -> None:
    dataset = IbisParquetDataset(str(tmp_path / "table.parquet"))
    dataset.save(ibis.memtable({"n": [1, 2]}))
    table = dataset.load()
    dataset.save(table.mutate(n=table.n + 1))
    assert dataset.load().to_pyarrow()["n"].to_pylist() == [2, 3]


def test_datasets_of_one_configuration_share_a_connection(tmp_path: Path) -> None:
    engine = {"backend": "duckdb", "database": ":memory:", "threads": 2}
    one = IbisParquetDataset(str(tmp_path / "1.parquet"), connection=engine)
    two = IbisParquetDataset(str(tmp_path / "2.parquet"), connection=dict(engine))
    assert one.connection is two.connection


@pytest.mark.parametrize("damage", [lambda _: b"", lambda c: c[:-10], lambda c: bytes(len(c))])
def test_a_damaged_file_is_named(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "vocabulary.parquet"
    IbisParquetDataset(str(path)).save(ibis.memtable({"n": [1, 2]}))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DatasetError) as refused:
        IbisParquetDataset(str(path)).load()
    refusal = refusal_in(refused.value)
    assert isinstance(refusal, StaleDataError)
    assert str(refusal).startswith(f"{path} is damaged (")
    assert "\n" not in str(refusal)


def test_what_another_run_put_there_is_refused(tmp_path: Path) -> None:
    ours, theirs = (IbisParquetDataset(str(tmp_path / "table.parquet")) for _ in range(2))
    ours.save(ibis.memtable({"n": [1, 2]}))
    assert theirs.load().to_pyarrow()["n"].to_pylist() == [1, 2]
    theirs.save(ibis.memtable({"n": [3, 4]}))
    with pytest.raises(DatasetError, match=r"table\.parquet was replaced by another run while"):
        ours.load()
