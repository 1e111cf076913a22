from __future__ import annotations

import signal

import pytest


@pytest.fixture(autouse=True, scope="session")
def _signals_as_in_a_terminal():
    """Under nohup, and in some runners, signals are ignored, and what tests start inherits it."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            default = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(number, default)


@pytest.fixture(autouse=True)
def _journal_of_its_own(tmp_path_factory, monkeypatch):
    """No test knows what another scanned, or touches the journal of who runs it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
