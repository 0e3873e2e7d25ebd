from pathlib import Path

import pytest

from llm_ctr_pipeline.data.storage import memory
from llm_ctr_pipeline.data.storage.memory import free_memory, machine_memory


def test_the_limit_of_a_cgroup_is_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = machine_memory()
    assert whole > 10**8
    assert 1 << 20 < free_memory() <= whole
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    (tmp_path / "outer" / "memory.max").write_text("50000000\n")
    (tmp_path / "outer" / "inner" / "memory.max").write_text("max\n")
    groups = tmp_path / "cgroup"
    groups.write_text("9:name=systemd:/\n0::/outer/inner\n")
    monkeypatch.setattr(memory, "GROUPS", groups)
    monkeypatch.setattr(memory, "GROUP_FOLDER", tmp_path)
    assert machine_memory() == free_memory() == 50_000_000


def test_the_first_version_of_cgroups_has_its_own_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory" / "job").mkdir(parents=True)
    (tmp_path / "memory" / "job" / "memory.limit_in_bytes").write_text("60000000")
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text(str(2**63 - 4096))
    groups = tmp_path / "cgroup"
    groups.write_text("8:pids:/job\n4:memory:/job\n")
    monkeypatch.setattr(memory, "GROUPS", groups)
    monkeypatch.setattr(memory, "GROUP_FOLDER", tmp_path)
    assert machine_memory() == 60_000_000
