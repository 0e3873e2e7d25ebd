import io
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from llm_ctr_pipeline.redaction import RedactedRecord, redacted

SECRET = "hunter2"  # noqa: S105 - made up


@pytest.mark.parametrize(
    "address",
    [
        "http://me:hunter2@host:5000/a",
        "https://hunter2@github.com/a/b",
        "postgresql+psycopg://me:hunter2@db/mlflow",
        "s3://AKIA:hunt/er+hunter2@bucket/log",
        "s3://bucket/log?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
        "https://a.blob.core.windows.net/log?sv=2024&sig=hunter2%3D&se=x",
        "gs://bucket/log?access_token=hunter2",
        "https://host/log?awsAccessKeyId=hunter2;aws_secret_access_key=hunter2",
        "mssql://db;pwd=hunter2",
        "host=db password=hunter2",
    ],
)
def test_credentials_in_an_address_are_hidden(address: str) -> None:
    text = redacted(f"cannot read '{address}': no such bucket; read {address}, then try again")
    assert SECRET not in text
    assert text.startswith("cannot read '")
    assert text.endswith(" then try again")
    assert "***" in text
    assert redacted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1, then mail me@example.org",
        "hdfs://hadoop@namenode:8020/log",
        "abfss://container@account.dfs.core.windows.net/log",
        "sqlite:////home/me/mlflow.db",
        "kedro run --params training.epochs=3,llm.pretrained=Qwen/Qwen3-0.6B",
        "https://host/log?version=2&page=3",
    ],
)
def test_other_text_stays(text: str) -> None:
    assert redacted(text) == text


def test_a_log_line_and_its_traceback_are_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "_logRecordFactory", RedactedRecord)
    logger, stream = logging.Logger("one"), io.StringIO()
    logger.addHandler(logging.StreamHandler(stream))
    logger.warning("reading %s", f"s3://me:{SECRET}@bucket")
    try:
        raise OSError(f"s3://me:{SECRET}@bucket is gone")
    except OSError:
        logger.exception("failed")
    assert SECRET not in stream.getvalue()
    assert stream.getvalue().count("s3://***@bucket") == 3  # the line of code too
    assert "OSError" in stream.getvalue()


def test_a_traceback_that_ends_the_process_is_redacted() -> None:
    """As the settings, which every command of Kedro reads, have it."""
    code = f"import llm_ctr_pipeline.settings\nraise OSError('http://me:{SECRET}@host is gone')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path.cwd(), check=False
    )
    assert done.returncode == 1
    assert SECRET not in done.stderr.splitlines()[-1]
    assert done.stderr.splitlines()[-1] == "OSError: http://***@host is gone"
