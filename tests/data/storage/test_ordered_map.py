import threading
from collections.abc import Iterator

import pytest

from llm_ctr_pipeline.data.storage.ordered_map import in_order


def test_results_come_in_order_though_later_ones_are_done_first() -> None:
    second_is_done = threading.Event()

    def work(item: int) -> int:
        if item == 0:
            assert second_is_done.wait(timeout=10)
        elif item == 1:
            second_is_done.set()
        return item * item

    assert [*in_order(work, range(20), threads=2)] == [item * item for item in range(20)]


def test_items_are_not_taken_far_ahead_of_the_results() -> None:
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    for done, _ in enumerate(in_order(abs, items(), threads=3)):
        assert taken <= done + 1 + 3


def test_an_error_of_the_work_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        [*in_order(lambda item: 1 // item, [1, 0, 1], threads=2)]
