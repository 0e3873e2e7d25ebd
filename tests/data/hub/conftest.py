"""A folder of raw logs, and a hub to fill it from."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.data.hub.stand_in import ARCHIVE, WHOLE, Hub, serve


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that behaves, and a client that does not sleep between its attempts.

    Of a broken transfer the client keeps whole chunks, of 10 MB unless told otherwise.
    """
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    monkeypatch.setattr("huggingface_hub.file_download.time", SimpleNamespace(sleep=lambda _: None))
    with serve(Hub(ARCHIVE.repo_id, ARCHIVE.file, WHOLE)) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "01_raw" / "avazu_x4"
