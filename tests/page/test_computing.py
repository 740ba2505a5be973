"""One thread computes for all, and nobody else notices."""

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.page.computing import in_one_thread


def run(asked):
    """What is asked, from a thread of its own: in this one a browser's loop may be running."""
    with ThreadPoolExecutor(1) as aside:
        return aside.submit(lambda: asyncio.run(asked())).result()


def test_all_calls_of_a_group_are_one_thread_s():
    """However many ask at once; another group has another thread."""
    ident = in_one_thread(threading.get_ident, "one")
    other = in_one_thread(threading.get_ident, "another")

    async def ask():
        return await asyncio.gather(*(ident() for _ in range(9)), other())

    *idents, another = run(ask)
    assert len({*idents, another, threading.get_ident()}) == 3


def test_errors_arrive_and_the_thread_lives_on():
    """Whoever asked hears of it, the next one does not."""
    divide = in_one_thread(lambda a, b: a / b, "dividing")

    with pytest.raises(ZeroDivisionError):
        run(lambda: divide(1, 0))
    assert run(lambda: divide(1, 2)) == 0.5


def test_the_asker_s_context_comes_along():
    """Gradio keeps the request and the bar of progress there."""
    asker = contextvars.ContextVar("asker")

    async def ask(name):
        asker.set(name)
        return await in_one_thread(asker.get, "asking")()

    async def both():
        return await asyncio.gather(ask("Ann"), ask("Bo"))

    assert run(both) == ["Ann", "Bo"]


def test_who_left_is_not_waited_for():
    """A question whose asker is gone before its turn is not answered at all."""
    begun, go, done = threading.Event(), threading.Event(), []

    def slowly():
        begun.set()
        go.wait()

    async def ask():
        first = asyncio.ensure_future(in_one_thread(slowly, "waiting")())
        await asyncio.to_thread(begun.wait)
        second = asyncio.ensure_future(in_one_thread(lambda: done.append(2), "waiting")())
        third = asyncio.ensure_future(in_one_thread(lambda: done.append(3), "waiting")())
        await asyncio.sleep(0)  # both have asked
        second.cancel()
        await asyncio.sleep(0)  # and one is gone
        go.set()
        await asyncio.gather(first, third)

    run(ask)
    assert done == [3]
