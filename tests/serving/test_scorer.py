"""Raw rows scored in Python."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from llm_ctr_pipeline.models.llm_ctr import LlmCtr
from llm_ctr_pipeline.serving.cells import RowError
from llm_ctr_pipeline.serving.scorer import Scorer
from llm_ctr_pipeline.training.checkpoint import save_checkpoint
from tests.training.test_checkpoint import make_checkpoint

BEST = "data/06_models/single_phase/best_model"


def test_a_row_is_scored_as_the_test_scored_it(finished_run: Path) -> None:
    scorer = Scorer.load(finished_run / BEST)
    raw = pd.read_csv(
        finished_run / "data/01_raw/generated_log/test.csv", dtype=str, keep_default_na=False
    )
    predictions = "data/07_model_output/single_phase/x4_test_predictions.parquet"
    tested = pd.read_parquet(finished_run / predictions)["probability"]
    np.testing.assert_allclose(scorer.predict(raw), tested, rtol=1e-5)
    some, expected = raw.drop(columns=["click", "id"]).iloc[5:12], tested[5:12]
    for rows in (some, some.to_dict("records"), pa.Table.from_pandas(some), some[::-1][::-1]):
        np.testing.assert_allclose(scorer.predict(rows), expected, rtol=1e-5)


@pytest.fixture
def scorer(make_model: Callable[..., LlmCtr], tmp_path: Path) -> Scorer:
    save_checkpoint(tmp_path / "best_model", make_checkpoint(make_model().eval()))
    return Scorer.load(str(tmp_path / "best_model"))


def row(**cells: Any) -> dict[str, Any]:
    return {"a": "1e5", "b": "x", "c": "x"} | cells


def test_each_row_is_scored_by_itself(scorer: Scorer) -> None:
    assert scorer.columns == ("a", "b", "c")
    rows = [row(), row(a="00x"), row(a="never seen"), row(a=None), row()]
    together = scorer.predict(rows)
    alone = np.concatenate([scorer.predict([each]) for each in rows])
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert len({*together.round(7)}) == 3  # two values that are known, and all others
    assert together.dtype == np.float64
    assert ((together > 0) & (together < 1)).all()


def test_no_rows_have_no_probabilities(scorer: Scorer) -> None:
    assert scorer.predict([]).shape == (0,)


def test_threads_may_share_a_scorer(scorer: Scorer) -> None:
    rows = [[row(a=value)] * size for value in ("1e5", "00x", "y") for size in (1, 3, 50)]
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(scorer.predict, rows * 5)]
    for scores, asked in zip(found, rows * 5, strict=True):
        np.testing.assert_allclose(scores, scorer.predict(asked), rtol=1e-5)


@pytest.mark.parametrize(
    ("threads", "variable", "expected"),
    [(None, None, 1), (None, "3", 2), (1, "3", 1), (3, None, 3)],
)
def test_threads_are_one_unless_somebody_says_otherwise(
    scorer: Scorer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: int | None,
    variable: str | None,
    expected: int,
) -> None:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)  # which PyTorch read when it was imported
    try:
        torch.set_num_threads(2)
        Scorer.load(tmp_path / "best_model", threads=threads)
        with ThreadPoolExecutor(1) as pool:  # such as a server's
            assert pool.submit(torch.get_num_threads).result() == expected
    finally:
        torch.set_num_threads(before)


def test_a_bad_row_is_refused(scorer: Scorer) -> None:
    with pytest.raises(RowError, match="row 1 has no column 'b'"):
        scorer.predict([row(), {"a": "1", "c": "1"}])


def test_neither_kedro_nor_mlflow_is_needed() -> None:
    code = (
        "import sys, llm_ctr_pipeline.serving.scorer; "
        "print({'kedro', 'mlflow', 'kedro_datasets', 'kedro_mlflow'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
