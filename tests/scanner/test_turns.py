"""Turns over large pictures are held by one process at a time, and never by a dead one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from test_cli import environment

from scanner.turns import Turns

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fcntl")

_HOLD = """
import sys, time
from pathlib import Path
from scanner.turns import Turns
turns = Turns()
turns.share(Path(sys.argv[1]), int(sys.argv[2]), 60.0)
with turns, turns:
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path, slots: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(path), str(slots)],
        env=environment(),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    path = tmp_path / "turns"
    path.touch()
    return path


def seconds_to_enter(turns: Turns) -> float:
    start = time.monotonic()
    with turns:
        return time.monotonic() - start


def test_a_process_waits_for_another_and_a_dead_one_holds_up_nobody(shared: Path) -> None:
    turns = Turns()
    turns.share(shared, 1, 60.0)
    with holder(shared, 1) as process:
        threading.Timer(0.5, process.kill).start()
        assert 0.3 < seconds_to_enter(turns) < 10


def test_as_many_as_there_are_slots_hold_a_turn_together(shared: Path) -> None:
    turns = Turns()
    turns.share(shared, 2, 60.0)
    with holder(shared, 2) as process:
        assert seconds_to_enter(turns) < 10
        assert process.poll() is None
        process.kill()


def test_who_has_waited_long_enough_goes_on_without(shared: Path) -> None:
    turns = Turns()
    turns.share(shared, 1, 0.3)
    with holder(shared, 1) as process:
        assert 0.2 < seconds_to_enter(turns) < 10
        with turns, turns:  # and gives back nothing that it does not hold
            pass
        process.kill()


def test_a_turn_is_given_back(shared: Path) -> None:
    turns = Turns()
    turns.share(shared, 1, 60.0)
    with turns, turns:
        pass
    with holder(shared, 1) as process:
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("slots", [0, 4])
def test_threads_of_one_process_take_turns_shared_or_not(shared: Path, slots: int) -> None:
    turns = Turns()
    if slots:
        turns.share(shared, slots, 60.0)
    inside, most = 0, 0

    def decode() -> None:
        nonlocal inside, most
        with turns:
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=decode) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
