import os
import signal
import threading

import pytest

from llm_ctr_pipeline.training.signals import deferred_stop

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_a_signal_is_noted_and_raised_when_asked(number: int) -> None:
    with deferred_stop() as stop:
        assert stop.signal is None
        stop.raise_if_arrived()
        os.kill(os.getpid(), number)
        assert stop.signal == number
        with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
            stop.raise_if_arrived()


def test_sigterm_ends_with_the_code_a_shell_reports() -> None:
    with deferred_stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as raised:
            stop.raise_if_arrived()
    assert raised.value.code == 143


def test_a_second_ctrl_c_acts_at_once() -> None:
    # A shell starts what it runs in the background with SIGINT ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with deferred_stop():
            os.kill(os.getpid(), signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_handlers_are_as_they_were_also_after_an_error() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]

    def fail() -> None:
        with deferred_stop():
            assert [signal.getsignal(number) for number in numbers] != before
            raise RuntimeError("full disk")

    with pytest.raises(RuntimeError, match="full disk"):
        fail()
    assert [signal.getsignal(number) for number in numbers] == before


def test_off_the_main_thread_nothing_is_deferred() -> None:
    signals: list[int | None] = []

    def use() -> None:
        with deferred_stop() as stop:
            stop.raise_if_arrived()
            signals.append(stop.signal)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert signals == [None]
    assert signal.getsignal(signal.SIGINT) is before
