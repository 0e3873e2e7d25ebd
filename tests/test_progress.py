import io

import pytest
import rich
from rich.console import Console

from llm_ctr_pipeline.progress import bytes_bar


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_bar_is_drawn_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=is_terminal, width=100)
    monkeypatch.setattr(rich, "_console", console)
    with bytes_bar() as progress:
        progress.advance(progress.add_task("reading train.csv", total=4_000_000), 1_000_000)
    assert ("reading train.csv" in written.getvalue()) is is_terminal
    assert ("1.0/4.0 MB" in written.getvalue()) is is_terminal
