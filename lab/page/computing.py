"""One thread computes for everybody.

    asked = view.ask(in_one_thread(run), batch=True, …)

torch, MKL and oneDNN keep buffers for each thread that ever computed, megabytes each. Gradio calls
a function in whichever of its forty threads is idle: after a thousand translations that was a third
of the page's memory, for one model call at a time.
"""

import asyncio
import contextvars
import functools
import queue
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

Job = tuple[Future[Any], Callable[[], Any]]


@functools.cache
def _jobs(group: str) -> queue.SimpleQueue[Job]:
    """What waits for the thread of a group; the thread ends with the page, whatever it is at."""
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_work, args=(jobs,), name=group, daemon=True).start()
    return jobs


def _work(jobs: queue.SimpleQueue[Job]) -> None:
    while True:
        future, call = jobs.get()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # whoever waits for it hears of it
                future.set_exception(error)
        del future, call  # an answer is not held until the next one


def in_one_thread(
    function: Callable[..., Any], group: str = "model"
) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The function as an event of Gradio's, run in the one thread of its group."""

    @functools.wraps(function)
    async def run(*args: Any) -> Any:
        future: Future[Any] = Future()
        context = contextvars.copy_context()  # the request, the bar of progress
        _jobs(group).put((future, functools.partial(context.run, function, *args)))
        return await asyncio.wrap_future(future)

    return run
