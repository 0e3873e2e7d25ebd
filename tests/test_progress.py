import io
import logging
import re

import pytest
import rich
from rich.console import Console

from llm_ctr_pipeline import progress as module
from llm_ctr_pipeline.progress import TrainingBar, bytes_bar


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


def test_without_a_terminal_a_line_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rich, "_console", Console(file=io.StringIO(), force_terminal=False))
    clock = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    with caplog.at_level(logging.INFO), TrainingBar() as bar:
        bar.begin(epoch=0, epochs=3, steps=200, done=0)
        for _ in range(4):
            clock[0] += 20
            bar.advance()
            assert bar.loss_due
            bar.show_loss(0.43219, 1234.5)
            assert not bar.loss_due
    first, second = caplog.messages
    assert first.startswith("epoch 1/3  2/200  ")
    assert first.endswith("  loss 0.4322  1,234 rows/s")
    assert second.startswith("epoch 1/3  4/200  ")


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_trainings_bar_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(rich, "_console", console)
    with TrainingBar() as bar:
        bar.begin(epoch=9, epochs=30, steps=25_000, done=0)
        bar.advance()
        bar.show_loss(0.43219, 12_345.6)
    last = written.getvalue().splitlines()[-2].split("\r")[-1].removeprefix("\033[2K")
    assert re.fullmatch(r"epoch 10/30 +1/25000 --:-- loss 0\.4322  12,346 rows/s", last)
    assert len(last) <= width
