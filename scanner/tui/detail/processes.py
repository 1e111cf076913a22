"""Starting processes from inside the running app."""

from __future__ import annotations

import multiprocessing
import sys
from contextlib import redirect_stderr
from multiprocessing.context import BaseContext
from typing import Any, cast


def process_context() -> BaseContext:
    """How worker processes are started, with what that needs running already.

    Call it in the thread of the app. Python hands its own helper processes sys.stderr, which
    Textual has put something in the place of that is no file.
    """
    # Never a plain fork: the app has threads, which a fork would leave half there.
    forkserver = "forkserver" in multiprocessing.get_all_start_methods()
    method = "forkserver" if forkserver and sys.platform != "darwin" else "spawn"
    context: Any = multiprocessing.get_context(method)
    if sys.platform != "win32":
        with redirect_stderr(cast(Any, sys.__stderr__)):
            if method == "forkserver":
                from multiprocessing import forkserver as server

                context.set_forkserver_preload(["scanner.tui.detail.worker"])
                server.ensure_running()
            else:
                from multiprocessing import resource_tracker

                resource_tracker.ensure_running()
    return cast(BaseContext, context)
