import json

from llm_ctr_pipeline.tracking.inputs import digest_of, inputs_of
from tests.records import summary_of


def test_a_splits_rows_are_named_by_log_digest_and_split() -> None:
    train, test = inputs_of(summary_of("x4"), ("train", "test"))
    assert (train.dataset.name, train.dataset.digest) == ("x4", "x4")
    assert [tag.value for tag in train.tags] == ["train"]
    assert [tag.value for tag in test.tags] == ["test"]
    assert json.loads(train.dataset.profile or "") == {"num_rows": 10, "clicks": 5}
    assert json.loads(test.dataset.source)["split"] == "test"


def test_a_digest_is_the_beginning_of_a_fingerprint() -> None:
    assert digest_of("0123456789abcdef" * 4) == "0123456789ab"
