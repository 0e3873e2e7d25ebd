"""Work for several threads whose results are wanted in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")


def in_order(
    work: Callable[[ItemT], ResultT], items: Iterable[ItemT], threads: int
) -> Iterator[ResultT]:
    """Call a function with each item, on several threads, no more than one result ahead of them.

    `map` of an executor would take all items at once, and hold all results.

    Yields:
        The results in the items' order.
    """
    with ThreadPoolExecutor(max_workers=threads) as pool:
        begun: deque[Future[ResultT]] = deque()
        for item in items:
            begun.append(pool.submit(work, item))
            if len(begun) > threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
