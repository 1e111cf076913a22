from __future__ import annotations

import os
import signal
from contextlib import suppress

import pytest

from scanner.interrupts import Interrupts

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_each_interrupts_as_ctrl_c_does(number: signal.Signals) -> None:
    with Interrupts(), pytest.raises(KeyboardInterrupt):
        send(number)


def test_what_is_held_is_finished_first() -> None:
    steps = []

    def row() -> None:
        with interrupts.held():
            send(signal.SIGTERM)
            with interrupts.held():
                steps.append("written")
            steps.append("counted")
        steps.append("next")

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        row()
    assert steps == ["written", "counted"]


def test_only_the_first_interrupts_what_follows_is_saving() -> None:
    with Interrupts():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        send(signal.SIGINT)
        send(signal.SIGTERM)


def test_once_only_saving_is_left_none_interrupts() -> None:
    with Interrupts() as interrupts:
        interrupts.no_more()
        send(signal.SIGINT)
        with interrupts.held():
            send(signal.SIGTERM)


def test_what_was_ignored_stays_ignored_and_all_is_put_back() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        handlers = [signal.getsignal(number) for number in SIGNALS]
        with suppress(KeyboardInterrupt), Interrupts():
            send(signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) not in handlers
        assert [signal.getsignal(number) for number in SIGNALS] == handlers
    finally:
        signal.signal(signal.SIGHUP, before)
