import pytest

from llm_ctr_pipeline.data.raw import csv_blocks


@pytest.fixture(params=[7, 64, 1 << 23])
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    size: int = request.param
    monkeypatch.setattr(csv_blocks, "_BLOCK_BYTES", size)
    return size
