from itertools import accumulate

import ibis
import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from llm_ctr_pipeline.data.features.split_summary import count_split, summarise_split
from llm_ctr_pipeline.data.raw.manifest import SplitCounts


def raw_of(rows: int) -> SplitCounts:
    return SplitCounts(file="train.csv", rows=rows, clicks=1, fingerprint="ab" * 32)


def by_hand(table: ir.Table, fields: tuple[str, ...]) -> str:
    """The fingerprint in Python's own integers."""
    prime = 2**31 - 1
    squares = cubes = 0
    for row in table.to_pyarrow().to_pylist():
        hash_ = row["row"]
        for position, column in enumerate(("label", *fields), start=1):
            hash_ += row[column] * pow(48_271, position, prime)
        squares += hash_ * hash_ % prime
        cubes += hash_**3 % prime
    return f"{squares % prime:08x}{cubes % prime:08x}"


def test_counts_of_a_split(connection: Backend) -> None:
    table = ibis.memtable(
        {"row": [0, 1, 2, 3], "label": [0, 1, 0, 0], "a": [0, 0, 0, 1], "b": [1] * 4}
    )
    summary = summarise_split("train", connection.create_table("t", table), ("a", "b"), raw_of(4))
    counts = summary.to_json()
    assert counts.pop("ids_fingerprint") == by_hand(table, ("a", "b"))
    assert counts == {
        "rows": 4,
        "clicks": 1,
        "click_rate": 0.25,
        "unknown_share": 3 / 8,
        "unknown_share_by_field": {"a": 0.75, "b": 0.0},
        "unseen_fields": [],
        "raw_fingerprint": "ab" * 32,
    }


def test_a_split_with_rows_missing_is_refused(connection: Backend) -> None:
    table = ibis.memtable({"row": [0, 2], "label": [0, 1], "a": [0, 0]})
    with pytest.raises(ValueError, match="encoded valid split has 2 rows, the raw one 3"):
        summarise_split("valid", connection.create_table("t", table), ("a",), raw_of(3))


def test_the_fingerprint_follows_every_id_and_not_the_order(connection: Backend) -> None:
    rows = 5000
    content = {
        "row": [*range(rows)],
        "label": [row % 2 for row in range(rows)],
        "a": [row % 7 for row in range(rows)],
        "b": [2_000_000_000 - row for row in range(rows)],
    }

    def fingerprint(name: str, **changes: list[int]) -> str:
        table = connection.create_table(name, ibis.memtable(content | changes))
        found = summarise_split("train", table, ("a", "b"), raw_of(rows)).ids_fingerprint
        assert found == by_hand(table, ("a", "b"))
        return found

    given = fingerprint("given")
    backwards = {name: values[::-1] for name, values in content.items()}
    assert fingerprint("backwards", **backwards) == given
    ids = content["a"]
    others = [
        fingerprint("one_id", a=[ids[0] + 1, *ids[1:]]),
        fingerprint("two_rows_swapped", a=[ids[1], ids[0], *ids[2:]]),
        fingerprint("two_fields_swapped", a=content["b"], b=ids),
        fingerprint("one_label", label=[1, *content["label"][1:]]),
    ]
    assert len({given, *others}) == 5


def test_a_field_stands_twice_in_the_query_and_not_deep_within_it() -> None:
    names = tuple(f"field_{number}_" for number in range(400))
    encoded = ibis.table({"row": "int64", "label": "int8", **dict.fromkeys(names, "int32")})
    query = ibis.to_sql(count_split(encoded, names), dialect="duckdb")
    # In the hash and among the unknown, which are named after it; and where it is passed on.
    assert query.count(names[7]) <= 5
    steps = [{"(": 1, ")": -1}.get(character, 0) for character in query]
    assert max(accumulate(steps)) < 40
