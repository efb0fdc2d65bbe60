# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the Python module does when it is broken off: by a close, a cancel, an exception, a signal, or the end of a loop."""

import asyncio
import contextlib
import errno
import gc
import os
import signal

import pytest

from library import Connection
from messaging import eventually, stands_still
from polling import readable
from python_module import LONG, SHORT, answers, raises, run, served, soon, xenmsg


async def test_an_exception_of_on_change_goes_to_the_loop(one):
    told, caught = [], []

    def on_change(change):
        told.append(change.kind)
        raise KeyError(change.kind)

    asyncio.get_running_loop().set_exception_handler(lambda _, context: caught.append(context))
    async with xenmsg.open(one.socket, reconnect=True) as conn:
        conn.on_change = on_change
        one.kill()
        await soon(lambda: told, "the loss is told")
        await asyncio.to_thread(one.start)
        await soon(lambda: len(told) == 2, "so is the end of it")
        conn.on_change = None
    assert ["on_change" in context["message"] for context in caught] == [True, True], caught
    assert all(isinstance(context["exception"], KeyError) for context in caught)


async def test_who_waits_for_listeners_of_a_topic_hears_of_its_end(one):
    async with xenmsg.open(one.socket) as conn, conn.topic("news") as news:
        waiting = asyncio.create_task(news.wait_for_listeners())
        await asyncio.sleep(SHORT)
        news.close()
        await raises(errno.ENOTCONN, asyncio.wait_for(waiting, LONG))


async def test_a_topic_that_is_left_raises_what_failed(one):
    async with xenmsg.open(one.socket) as conn:
        with pytest.raises(xenmsg.Error):
            async with conn.topic("news") as news:
                os.kill(one.pid, signal.SIGSTOP)
                await asyncio.to_thread(eventually, lambda: stands_still(one.pid), "the daemon stands still")
                await news.post(b"never published")
                one.kill()


def test_another_loop_is_refused(one):
    async def begin():
        conn = await xenmsg.open(one.socket)
        inbox = await conn.bind("inbox")
        return conn, inbox, await conn.post("self:inbox", b"x")

    conn, inbox, outcome = asyncio.run(begin())
    message = inbox._take(inbox._link.core)
    while message is None:
        readable([inbox._link.fd], LONG)
        message = inbox._take(inbox._link.core)
    for what in (lambda: outcome, lambda: conn.send("self:inbox", b""), lambda: conn.post("self:inbox", b""), conn.flush,
                 lambda: conn.query("peers"), inbox.recv):
        async def main(what=what):
            await asyncio.wait_for(what(), LONG)
        with pytest.raises(RuntimeError, match="another event loop"):
            asyncio.run(main())
    conn.close()
    inbox.close()


def test_what_outlives_its_loop_is_closed_and_warned_of(one):
    def opened(loop):
        conn = loop.run_until_complete(xenmsg.open(one.socket).__aenter__())
        inbox = loop.run_until_complete(conn.bind("inbox").__aenter__())
        waiting = [loop.create_task(conn.send("self:inbox", b"x")), loop.create_task(conn.flush())]
        loop.run_until_complete(asyncio.sleep(SHORT))
        loop.close()
        return conn, inbox, waiting

    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # of tasks that never ended
    conn, inbox, waiting = opened(loop)
    conn.close()
    inbox.close()
    assert conn.closed and conn.pending == 0
    del conn, inbox, waiting, loop
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    with pytest.warns(ResourceWarning, match="not closed") as warned:
        conn, inbox, waiting = opened(loop)
        del conn, inbox, waiting, loop
        gc.collect()
    warned.clear()  # which names its source
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_handler_is_cancelled_once(one):
    begun, cleaning, cleaned = [], [], []
    go_on = asyncio.Event()

    async def handler(message):
        begun.append(bytes(message))
        try:
            await asyncio.sleep(10 * LONG)
        finally:
            cleaning.append(bytes(message))
            await go_on.wait()  # in which it isn't cancelled again, though others are
            cleaned.append(bytes(message))

    async with xenmsg.open(one.socket) as conn, served(one, conn, "work", handler):
        for number in range(3):
            seconds = SHORT
            while len(begun) <= number:
                await raises(errno.ETIMEDOUT, conn.call("self:work", b"%d" % number, timeout=seconds))
                seconds *= 4  # on a slow machine it came too late
            await soon(lambda: len(cleaning) == len(begun), "it is withdrawn from its handler")
        assert not cleaned
        go_on.set()
        await soon(lambda: sorted(cleaned) == sorted(begun), "all have cleaned up")


@pytest.mark.parametrize("blocking", (False, True))
async def test_an_odd_number_of_a_handlers_error_is_eio(one, blocking):
    odd = {b"negative": OSError(-5, "x"), b"none": OSError("x"), b"text": OSError("a", "b"), b"large": OSError(1 << 40, "x"),
           b"zero": xenmsg.Answered(0, b"from behind")}

    def fail(message):
        raise odd[bytes(message)]

    async def handler(message):
        fail(message)

    def serve():
        with xenmsg.blocking.open(one.socket) as conn, contextlib.suppress(xenmsg.NoDaemon):
            conn.serve("work", fail)

    async with xenmsg.open(one.socket) as conn:
        serving = asyncio.create_task(asyncio.to_thread(serve) if blocking else conn.serve("work", handler))
        await soon(lambda: "work" in one.endpoints(), "work is bound")
        for name in odd:
            await answers(errno.EIO, conn.call("self:work", name, timeout=LONG))
        one.stop()  # which ends it
        await asyncio.gather(serving, return_exceptions=True)


def test_what_ends_while_messages_are_taken_is_told(one):
    """Taking reads what has come, also what isn't a message; the descriptor then tells of that."""
    core = xenmsg._core.Connection(one.socket)
    bound = core.begin_bind("inbox", True, True, False)
    while not bound.done():
        core.wait(1000)
    draining = core.begin_drain("inbox", -1)
    draining.waiter = [draining]
    for _ in range(3):
        assert readable([core.fileno()], LONG)
        if core.recv(0) is None and readable([core.fileno()], 0) and draining in core.process():
            break
    assert draining.done() and draining.result() is None
    core.close()


def test_iterating_ends_when_a_signals_handler_closes(one):
    with xenmsg.blocking.open(one.socket) as conn:
        sources = [conn.bind("inbox"), conn.listen("streams"), conn.watch("*:none")]
        before = signal.getsignal(signal.SIGALRM)
        try:
            for source in sources:
                signal.signal(signal.SIGALRM, lambda *_, source=source: source.close())
                signal.setitimer(signal.ITIMER_REAL, SHORT)
                assert [come for come in source if not isinstance(come, xenmsg.Event)] == []
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


async def test_a_stream_goes_to_another_when_who_took_it_is_cancelled(one):
    async with xenmsg.open(one.socket) as conn, conn.listen("streams") as listener:
        for steps in range(8):
            first, second = asyncio.create_task(listener.accept()), asyncio.create_task(listener.accept())
            await asyncio.sleep(SHORT)
            reader, writer = await conn.connect("self:streams", timeout=LONG)
            core = listener._listening._link.core
            taken = len(asyncio.all_tasks())
            while not first.done() and len(asyncio.all_tasks()) == taken:
                await asyncio.sleep(0)
            for _ in range(steps):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            accepted = await asyncio.wait_for(second, LONG) if first.cancelled() else first.result()
            accepted.writer.write(b"%d" % steps)
            accepted.writer.close()
            assert await reader.read() == b"%d" % steps and not core.closed
            writer.close()
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)


async def test_a_watch_is_asked_without_waiting(one):
    async with xenmsg.open(one.socket) as conn, conn.watch("self") as watch:
        assert readable([watch._link.fd], LONG)
        assert (await watch.next(0)).domid == 1


@pytest.mark.parametrize("how", ["read", "readexactly", "readline", "all"])
async def test_what_came_before_a_break_is_read_before_it(one, how):
    with Connection(one.socket) as server:
        assert server.listen("pipe") == 0
        async with xenmsg.open(one.socket) as conn:
            reader, writer = await conn.connect("self:pipe", timeout=LONG)
            stream = await asyncio.to_thread(server.accept)
            os.write(stream, b"line\n" + b"x" * 95)
            server.library.xenmsg_break(stream)
            await soon(lambda: writer.transport.is_closing() or reader.at_eof() or reader._eof, "the break is there")  # pylint: disable=protected-access
            if how == "readline":
                assert await reader.readline() == b"line\n"
            elif how != "all":
                assert await (reader.read(1000) if how == "read" else reader.readexactly(100)) == b"line\n" + b"x" * 95
            rest = {"read": reader.read(1), "readexactly": reader.readexactly(1), "readline": reader.readline(), "all": reader.read()}
            for name, coroutine in rest.items():
                if name == how:
                    with pytest.raises(ConnectionResetError, match="has broken it off"):
                        await asyncio.wait_for(coroutine, LONG)
                else:
                    coroutine.close()
            writer.close()
