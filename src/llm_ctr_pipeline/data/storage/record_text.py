"""Records as JSON text that carries its own digest, so that no change to it passes unseen."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from llm_ctr_pipeline.data.errors import RefusedError
from llm_ctr_pipeline.frozen import Frozen, faults_of

DIGEST = "sha256"
# Left out of it, so that a result has the same digest whenever it is made.
_UNCOUNTED = {"timestamp"}

RecordT = TypeVar("RecordT", bound=Frozen)


class RecordError(RefusedError, ValueError):
    """A text that is not the record it should be; the message says why, not in which file."""


def to_text(record: Frozen) -> str:
    """Write a record as JSON, the digest of its content behind it."""
    content = record.to_json()
    return json.dumps({**content, DIGEST: digest_of(content)}, indent=2)


def from_text(kind: type[RecordT], text: bytes) -> RecordT:
    """Read what `to_text` wrote.

    Raises:
        RecordError: Keys are missing or unknown, a value is of another type, or the content is
            not that of its digest.
    """
    try:
        content = json.loads(text)
    except ValueError as error:
        raise RecordError("cut off or no JSON") from error
    if not isinstance(content, dict):
        raise RecordError("no JSON object")
    said = content.pop(DIGEST, None)
    try:
        record = kind.from_json(content)
    except ValidationError as error:
        raise RecordError(faults_of(error)) from error
    if said is None:
        raise RecordError(f"it lacks {DIGEST}")
    if said != digest_of(content):
        raise RecordError(f"its content is not that of its {DIGEST}, so it was changed")
    return record


def digest_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON types, in hexadecimal, whatever the order of their keys."""
    counted = {key: value for key, value in content.items() if key not in _UNCOUNTED}
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()
