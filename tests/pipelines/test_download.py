import hashlib
import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

RAW = {"train.csv": b"id,click\n1,0\n", "test.csv": b"id,click\n2,1\n"}
RunHere = Callable[..., None]


@pytest.fixture
def small_archive(project: Path) -> Path:
    """A project that knows an archive `small`, whose zip was put there by hand."""
    raw_data = project / "data" / "01_raw"
    raw_data.mkdir(parents=True)
    with zipfile.ZipFile(raw_data / "Small.zip", "w") as zip_file:
        for name, content in RAW.items():
            zip_file.writestr(name, content)
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in RAW.items()}  # noqa: S324
    small = {"repo_id": "owner/Small", "file": "Small.zip", "folder": "small", "md5": md5}
    (project / "conf" / "test" / "parameters_download.yml").write_text(
        yaml.safe_dump({"download": {"datasets": "small", "archives": {"small": small}}})
    )
    return raw_data


def test_an_archive_of_the_users_own_goes_through(
    project: Path, small_archive: Path, run_here: RunHere
) -> None:
    run_here(project, "download")
    folder = small_archive / "small"
    assert {name: (folder / name).read_bytes() for name in RAW} == RAW
    manifest = json.loads((folder / "download.json").read_text())
    assert manifest["repo_id"] == "owner/Small"
    assert {name: file["bytes"] for name, file in manifest["files"].items()} == {
        "train.csv": 13,
        "test.csv": 13,
    }


@pytest.mark.slow
@pytest.mark.usefixtures("small_archive")
def test_without_the_hub_the_run_fails_and_tells_the_way_by_hand(
    project: Path,
    kedro_run: Callable[..., subprocess.CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = kedro_run(
        project, "--env", "test", "--pipeline=download", "--params", "download.datasets=small x2"
    )
    assert done.returncode != 0
    # The archives before it are there.
    assert (project / "data" / "01_raw" / "small" / "train.csv").exists()
    assert "Avazu_x2.zip could not be fetched" in done.stdout + done.stderr
    assert "put it into" in done.stdout + done.stderr
    assert not (project / "data" / "01_raw" / "avazu_x2").exists()
