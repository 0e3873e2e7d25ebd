"""Making the feature map from a vocabulary, and seeing that one was made of another."""

import hashlib
from collections.abc import Sequence

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.compute as pc

from llm_ctr_pipeline.data.errors import RefusedError, StaleDataError, first_line
from llm_ctr_pipeline.data.features.feature_map import Extension, FeatureMap, Field, FitSource
from llm_ctr_pipeline.data.features.vocabulary import DATASET, entries_by_field, part_of

JOINT = "joint"
_BATCH_ROWS = 100_000


def build_feature_map(
    vocabulary: ir.Table, dataset: str, fields: tuple[str, ...], min_count: int, fit_on: FitSource
) -> FeatureMap:
    """Count each field's ids and take the fingerprint of a vocabulary of `fit_vocabulary`'s."""
    digest = hashlib.sha256(f"min_count {min_count}\n".encode())
    known = _digest_fields(vocabulary, fields, digest)
    return FeatureMap(
        dataset=dataset,
        # One more for id 0, "unknown".
        fields=tuple(Field(name=name, size=known[name] + 1) for name in fields),
        min_count=min_count,
        fit_on=fit_on,
        fingerprint=digest.hexdigest(),
    )


def build_joint_map(
    vocabulary: ir.Table, first: FeatureMap, others: Sequence[FeatureMap | Extension]
) -> FeatureMap:
    """Describe a vocabulary of `join_vocabularies`'s, and the maps that it joins.

    Args:
        vocabulary: The joint vocabulary.
        first: The map of the log that keeps its ids.
        others: Those of the other logs, in the order of `vocabulary`.
    """
    digest = hashlib.sha256(f"extends {first.fingerprint}\n".encode())
    for own in others:
        digest.update(f"dataset {own.dataset}\n".encode())
        _digest_fields(part_of(vocabulary, own.dataset), first.names, digest)
    last = vocabulary.group_by("field").aggregate(id=vocabulary["id"].max()).to_pyarrow()
    last_ids = dict(zip(last["field"].to_pylist(), last["id"].to_pylist(), strict=True))
    return FeatureMap(
        dataset=JOINT,
        fields=tuple(Field(name=name, size=last_ids.get(name, 0) + 1) for name in first.names),
        min_count=first.min_count,
        fit_on=first.fit_on,
        fingerprint=digest.hexdigest(),
        extends=first.fingerprint,
        extensions=tuple(
            Extension(dataset=own.dataset, fit_on=own.fit_on, fingerprint=own.fingerprint)
            for own in others
        ),
    )


def read_vocabulary(vocabulary: ir.Table, known: FeatureMap) -> pa.Table:
    """Read a vocabulary into memory, and see that it is the one that a feature map was made of.

    Raises:
        StaleDataError: The fields, their sizes or the fingerprint are not those of its values, or
            its file is damaged.
    """
    file = f"04_feature/{known.dataset}/vocabulary.parquet"
    try:
        values = vocabulary.to_pyarrow()
        made = _made_of(values, known)
    except RefusedError:
        raise
    except Exception as error:
        # The engine's own class, or Arrow's, or Ibis's where a column is missing.
        raise StaleDataError(f"{file} cannot be read ({first_line(error)})") from error
    if made != (known.fields, known.fingerprint, known.extends):
        raise StaleDataError(f"{file} is not what feature_map.json beside it was made of")
    return values


def _made_of(values: pa.Table, known: FeatureMap) -> tuple[tuple[Field, ...], str, str | None]:
    """The fields, the fingerprint and what it extends of the map that values give."""
    vocabulary = ibis.memtable(values)
    first = values[DATASET][0].as_py() if known.extends else known.dataset
    own = part_of(vocabulary, first)
    made = build_feature_map(own, first, known.names, known.min_count, known.fit_on)
    if known.extends:
        made = build_joint_map(vocabulary, made, known.extensions)
    return made.fields, made.fingerprint, made.extends


def _digest_fields(
    vocabulary: ir.Table, names: Sequence[str], digest: "hashlib._Hash"
) -> dict[str, int]:
    """Add the fields' values and ids in id order to the digest; return how many each has."""
    entries = entries_by_field(vocabulary)
    known = {}
    for name in names:
        digest.update(f"field {name}\n".encode())
        of_field = entries.get(name)
        known[name] = 0 if of_field is None else of_field.num_rows
        # In batches: a field such as device_ip has millions of values on the whole log.
        for batch in () if of_field is None else of_field.to_batches(_BATCH_ROWS):
            digest.update(_as_text(batch))
    return known


def _as_text(batch: pa.RecordBatch) -> memoryview:
    """Write a batch as lines of `id length value`, unambiguous whatever a value holds."""
    value = batch.column("value")
    lines = pc.binary_join_element_wise(
        batch.column("id").cast(pa.string()),
        pc.binary_length(value).cast(pa.string()),
        pc.binary_join_element_wise(value, "\n", ""),
        " ",
    )
    # Arrow keeps the lines one behind the other already.
    _, _, text = lines.buffers()
    return memoryview(text)[: pc.sum(pc.binary_length(lines)).as_py()]
