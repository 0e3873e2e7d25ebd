import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from llm_ctr_pipeline.params import CompareParams, DownloadParams

PROJECT = Path(__file__).parents[1]
COMPARE = {
    **{"paths": "all", "runs": "", "baseline": "deepfm", "dataset": "x4", "split": "test"},
    "seeds": 1,
}


def shipped_download() -> dict[str, Any]:
    content = yaml.safe_load((PROJECT / "conf/base/parameters_download.yml").read_text())
    download: dict[str, Any] = content["download"]
    return download


def test_the_shipped_parameters_are_valid() -> None:
    download = DownloadParams(**shipped_download())
    assert "x4" in download.names
    assert list(download.archives) == ["x1", "x2", "x4"]
    assert [len(archive.md5) for archive in download.archives.values()] == [3, 2, 3]


@pytest.mark.parametrize("datasets", ["", "x3", "x1,x4", "x4 x5"])
def test_an_unknown_name_is_refused(datasets: str) -> None:
    with pytest.raises(ValidationError, match="it should hold names out of x1, x2, x4"):
        DownloadParams(**{**shipped_download(), "datasets": datasets})


@pytest.mark.parametrize("folder", ["../elsewhere", "/tmp", "", "a/b"])  # noqa: S108
def test_a_folder_that_is_not_below_the_raw_data_is_refused(folder: str) -> None:
    download = shipped_download()
    download["archives"]["x4"]["folder"] = folder
    with pytest.raises(ValidationError, match="folder"):
        DownloadParams(**download)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paths": "deepfm"}, "it should name two or more"),
        ({"paths": ""}, "it should name two or more"),
        ({"paths": "deepfm deepfm"}, "it should name two or more, each once"),
        ({"paths": "deepfm lstm"}, "it should be all, or names out of deepfm, logistic_regression"),
        ({"runs": "1234"}, "it should name two or more"),
        ({"runs": "12 34", "paths": "deepfm two_phase"}, "compare names both paths and runs"),
        (
            {"runs": "12 34", "seeds": 2},
            "compare.seeds is for paths: name all the runs in compare.r",
        ),
        ({"paths": "hybrid hybrid/int8", "seeds": 2}, "compare.seeds is for paths as trained"),
        ({"paths": "deepfm deepfm/int8"}, "it should be all, or names out of deepfm, logistic"),
        ({"split": "holdout"}, "should be 'train', 'valid' or 'test'"),
        ({"dataset": "../x4"}, "should match pattern"),
    ],
)
def test_settings_that_name_nothing_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        CompareParams(**COMPARE | settings)
