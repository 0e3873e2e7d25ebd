from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from llm_ctr_pipeline.data.log.schema import LogSchema

CONF = Path(__file__).parents[3] / "conf"
LOG: dict[str, Any] = {
    **yaml.safe_load((CONF / "base" / "parameters_preprocess.yml").read_text())["log"],
    "dataset": "x4",
}
NO_HEADER: dict[str, Any] = {
    "columns": ["label", "a", "b"],
    "label": "label",
    "ignored": ["b"],
    "times": [],
    "fields": ["a"],
}


def refused(**changes: Any) -> str:
    with pytest.raises(ValidationError) as error:
        LogSchema(**(LOG | changes))
    return str(error.value)


def test_the_shipped_log_is_avazu_x4() -> None:
    schema = LogSchema(**LOG)
    assert len(schema.names) == 24
    assert schema.time_fields == ("hour", "weekday", "weekend")
    assert len(schema.raw_columns) == 24
    assert {"id", "click", "hour", "C1", "C21"} <= set(schema.raw_columns)
    assert dict(schema.splits.files) == {
        "train": "train.csv",
        "valid": "valid.csv",
        "test": "test.csv",
    }


def test_a_file_without_a_header_names_its_columns() -> None:
    schema = LogSchema(**(LOG | NO_HEADER))
    assert schema.raw_columns == ("label", "a", "b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fields": []}, "no fields are given"),
        ({"fields": ["C1", "C1"]}, "the field 'C1' is given twice"),
        ({"fields": ["C14", "c14"]}, "the fields 'C14' and 'c14' differ by case alone"),
        ({"fields": ["C14"], "ignored": ["ID", "id"]}, "the columns 'ID' and 'id' differ by case"),
        ({"fields": ["row"]}, "'row' cannot be a field's name"),
        ({"fields": ["Label"]}, "'Label' cannot be a field's name"),
        ({"fields": [{"name": "x", "kind": "number"}]}, "fields.0.kind\n  Input should be"),
        ({"fields": ["my field"]}, "'my field' cannot be a field's name"),
        ({"fields": ["id"]}, "the column 'id' is both ignored and used"),
        ({"fields": [{"name": "clicked", "column": "click"}]}, "'click' cannot be a field"),
        ({"fields": [{"name": "hour", "kind": "hour", "column": "C1"}]}, "neither among the times"),
        ({"fields": [{"name": "x", "kind": "numeric", "edges": [2, 1]}]}, "must ascend"),
        ({"fields": [{"name": "x", "edges": [1, 2]}]}, "only a numeric field has edges"),
        ({"times": [*LOG["times"], *LOG["times"]]}, "the column 'hour' is described twice"),
        ({"times": [{"column": "hour", "format": "YYYY"}]}, "unix_seconds"),
        ({"delimiter": ",,"}, "delimiter"),
        ({"delimiter": '"'}, "cannot stand between two cells"),
        ({"delimiter": "¦"}, "'¦' cannot stand between two cells"),
        ({"splits": LOG["splits"] | {"test": "train.csv"}}, "'train.csv' is given for 2 splits"),
        ({"splits": LOG["splits"] | {"valid": 0.6, "test": 0.4}}, "leave no rows"),
        ({"splits": LOG["splits"] | {"valid": 1.5}}, "a share between 0 and 1"),
        ({"splits": LOG["splits"] | {"by": "C1"}}, "which is not among the times"),
        ({"separator": ";"}, "Extra inputs are not permitted"),
        (NO_HEADER | {"columns": ["label", "a"]}, "the column 'b' is used, but columns does not"),
        (NO_HEADER | {"ignored": []}, "columns names 'b', which is neither used nor ignored"),
        (NO_HEADER | {"columns": ["label", "a", "a"]}, "columns names 'a' twice"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    assert message in refused(**changes)


def test_codes_must_stand_for_what_the_field_is() -> None:
    code = {"column": "wday", "part": "weekday", "offset": 5, "first": 0, "last": 6}
    fields = ["C1", {"name": "weekend", "kind": "weekend", "column": "wday"}]
    schema = LogSchema(**(LOG | {"codes": [code], "fields": fields}))
    assert "wday" in schema.raw_columns
    hour = {"name": "hour", "kind": "hour", "column": "wday"}
    assert "the codes of its column 'wday' stand for the weekday" in refused(
        codes=[code], fields=[hour]
    )
    assert "first is above last" in refused(codes=[code | {"first": 7}])


@pytest.mark.parametrize(
    ("env", "fields", "columns"), [("criteo", 39, 40), ("frappe", 10, 11), ("movielens", 3, 4)]
)
def test_the_shipped_logs_are_described(env: str, fields: int, columns: int) -> None:
    own = yaml.safe_load((CONF / env / "parameters.yml").read_text())
    merged = LOG | own["log"] | {"dataset": env}
    merged["splits"] = LOG["splits"] | own["log"].get("splits", {})
    schema = LogSchema(**merged)
    assert len(schema.names) == fields
    assert len(schema.raw_columns) == columns
    assert own["model"]["prompt"]
