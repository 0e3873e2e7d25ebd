import json

import pytest

from llm_ctr_pipeline.data.storage.record_text import RecordError, from_text, to_text
from llm_ctr_pipeline.frozen import Frozen


class Made(Frozen):
    """A record."""

    name: str
    share: float
    timestamp: str = ""


MADE = Made(name="é", share=0.1 + 0.2, timestamp="noon")


def test_a_record_comes_back_whatever_the_order_of_its_keys() -> None:
    assert from_text(Made, to_text(MADE).encode()) == MADE
    turned = dict(reversed(json.loads(to_text(MADE)).items()))
    assert from_text(Made, json.dumps(turned).encode()) == MADE


def test_the_digest_does_not_follow_the_time() -> None:
    first, second, other = (
        json.loads(to_text(MADE.model_copy(update=update)))["sha256"]
        for update in ({}, {"timestamp": "dusk"}, {"share": 0.3})
    )
    assert first == second != other


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("0.30000000000000004", "0.3", "its content is not that of its sha256, so it was changed"),
        ("}", "", "cut off or no JSON"),
        ('"sha256"', '"sha257"', "it has sha257 besides"),
        ('"name"', '"nane"', "it lacks name; it has nane besides"),
        ("0.30000000000000004", '"x"', "share: Input should be a valid number"),
    ],
)
def test_what_was_changed_is_refused_in_one_line(old: str, new: str, fault: str) -> None:
    text = to_text(MADE)
    assert text.count(old) == 1
    with pytest.raises(RecordError) as refused:
        from_text(Made, text.replace(old, new).encode())
    assert str(refused.value).startswith(fault)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [b"", b"\0\0", b"\xff{}", b"[]", b"3", b"{}"])
def test_what_is_no_record_is_refused(text: bytes) -> None:
    with pytest.raises(RecordError):
        from_text(Made, text)


def test_a_record_without_its_digest_is_refused() -> None:
    with pytest.raises(RecordError, match="it lacks sha256"):
        from_text(Made, json.dumps(MADE.to_json()).encode())
