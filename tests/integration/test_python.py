# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Python module keeps the library's promises: each message one outcome, nothing lost and nothing twice, whatever is cancelled,
dropped, forked or interrupted."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import socket
import threading
import time

import pytest

from library import holds_nobody_for_long
from messaging import FAST, eventually, stopped
from python_module import LONG, SHORT, answers, raises, run, served, soon, taken_in_time, xenmsg


# ---- messages ----

async def test_each_message_arrives_once_and_in_order(one, two):
    async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other, other.bind("inbox") as inbox:
        async def take():
            got = []
            async for message in inbox:
                assert (message.sender_domid, message.endpoint, message.wants_reply) == (1, "inbox", False)
                assert (message.sender_pid, message.sender_uid) == (os.getpid(), os.getuid())
                got.append(int(bytes(message)))
                if got[-1] == 4999:
                    return got
        taking = asyncio.create_task(take())
        outcomes = [await conn.post("2:inbox", b"%d" % number) for number in range(5000)]
        assert await taking == list(range(5000))
        await conn.flush()
        assert conn.pending == 0 and [await outcome for outcome in outcomes[::100]] == [None] * 50
        assert all(outcome.errno == 0 for outcome in outcomes)


def test_the_same_without_asyncio(one, two):
    got = []

    def take():
        with xenmsg.blocking.open(two.socket) as conn, conn.bind("inbox") as inbox:
            for message in inbox:
                got.append(int(bytes(message)))
                if got[-1] == 4999:
                    return
    thread = threading.Thread(target=take)
    thread.start()
    eventually(lambda: "inbox" in two.endpoints(), "inbox is bound")
    with xenmsg.blocking.open(one.socket) as conn:
        for number in range(4999):
            conn.post("2:inbox", b"%d" % number)
        conn.flush(LONG)
        conn.send("2:inbox", b"4999", timeout=LONG)
    thread.join(LONG)
    assert got == list(range(5000))


def test_a_large_message_is_seen_in_place_and_outlives_all(one, two):
    large = os.urandom(8 << 20)

    async def main():
        async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other, other.bind("inbox") as inbox:
            sending = asyncio.create_task(conn.send("2:inbox", memoryview(large), timeout=LONG))
            message = await inbox.recv(LONG)
            await sending
            return message
    message = run(main())
    view = message.data
    assert len(message) == len(view) == len(large) and view.readonly and view.obj is message
    del message
    gc.collect()
    assert view == large


def test_messages_are_freed(one):
    def resident():
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with xenmsg.blocking.open(one.socket) as conn, conn.bind("inbox") as inbox:
        def send():
            for _ in range(60):
                conn.send("self:inbox", bytes(4 << 20), timeout=LONG)
        begin = resident()
        thread = threading.Thread(target=send)
        thread.start()
        for _ in range(60):
            assert len(inbox.recv(LONG)) == 4 << 20
        thread.join(LONG)
        assert resident() - begin < 100 << 20


async def test_errors_carry_errno_and_words(one, two, tmp_path):
    two.write_policy("[rule]\nfrom = *\nto = secret\naction = deny\n", "10-secret.conf")
    assert two.xenmsg("policy", "reload").returncode == 0
    missing = await raises(errno.ENOENT, xenmsg.open(str(tmp_path / "none")))
    assert isinstance(missing, xenmsg.NoDaemon) and str(tmp_path) in str(missing)
    with pytest.raises(xenmsg.NoDaemon):
        xenmsg.blocking.open(str(tmp_path / "none"))
    async with xenmsg.open(one.socket) as conn:
        assert conn.domid == 1 and conn.max_message == 16 << 20
        nobody = await raises(errno.ENOENT, conn.send("2:nobody", b""))
        assert str(nobody).startswith("2:nobody: no such endpoint there") and nobody.definite and nobody.address == "2:nobody"
        await raises(errno.EHOSTDOWN, conn.send("99:nobody", b""))
        await raises(errno.EINVAL, conn.send("nowhere", b""))
        await raises(errno.EMSGSIZE, conn.send("2:nobody", bytes((16 << 20) + 1)))
        await raises(errno.EACCES, conn.send("2:secret", b""))
        words = await raises(errno.EINVAL, conn.query("nonsense"))
        assert words.reason and words.reason in str(words)
        with pytest.raises(TypeError):
            await conn.send("2:nobody", "text")
        with pytest.raises(ValueError):
            await conn.send("2:nobody\0", b"")
        async with conn.bind("mine"):
            await raises(errno.EEXIST, conn.bind("mine"))
        # What nobody waits for is told by flush(), once.
        await conn.post("2:nobody", b"")
        assert (await raises(errno.ENOENT, conn.flush())).address == "2:nobody"
        await conn.flush()
    await raises(errno.ENOTCONN, conn.send("2:nobody", b""))


# ---- giving up ----

async def test_a_send_that_is_cancelled_is_withdrawn_and_says_so(one, two):
    async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other, other.bind("inbox") as inbox:
        task = asyncio.create_task(conn.send("2:inbox", b"never"))
        await asyncio.sleep(SHORT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert xenmsg.Abandoned.of(caught.value).delivered is False
        with pytest.raises(TimeoutError) as timed:
            await asyncio.wait_for(conn.send("2:inbox", bytes(1000)), SHORT)
        assert xenmsg.Abandoned.of(timed.value).delivered is False
        with pytest.raises(TimeoutError) as timed:
            async with asyncio.timeout(SHORT):
                await conn.send("2:inbox", b"never")
        assert xenmsg.Abandoned.of(timed.value).delivered is False
        with pytest.raises(xenmsg.TimedOut) as late:
            await conn.send("2:inbox", b"never", timeout=SHORT)
        assert late.value.definite
        outcome = await conn.post("2:inbox", b"never")
        assert outcome.withdraw()
        await raises(errno.ETIMEDOUT, outcome)
        assert not outcome.withdraw()
        marker = await conn.post("2:inbox", b"marker")
        assert bytes(await inbox.recv(LONG)) == b"marker"
        assert await marker is None and conn.pending == 0


async def test_a_cancelled_send_that_was_delivered_says_so(one):
    """Cancelled in the same moment as the message is taken."""
    async with xenmsg.open(one.socket) as conn, conn.bind("inbox") as inbox:
        for number in range(50):
            task = asyncio.create_task(conn.send("self:inbox", b"%d" % number))
            while not conn.pending:
                await asyncio.sleep(0)
            message = await inbox.recv(LONG)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as cancelled:
                assert xenmsg.Abandoned.of(cancelled).delivered is True
            assert bytes(message) == b"%d" % number


async def test_calls_that_are_given_up_at_any_moment_leave_nothing(one):
    async def handler(message):
        return bytes(message)

    async with xenmsg.open(one.socket) as conn, served(one, conn, "turn", handler):
        async def call(number):
            try:
                async with asyncio.timeout(number % 7 / 1000):
                    return bytes(await conn.call("self:turn", b"%d" % number)) == b"%d" % number
            except TimeoutError as error:
                return xenmsg.Abandoned.of(error).delivered is not True or "answered"
        assert all(await asyncio.gather(*(call(number) for number in range(200))))
        assert conn.pending == 0 and bytes(await conn.call("self:turn", b"last")) == b"last"


async def test_cancelled_while_there_is_no_room_nothing_is_sent(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("inbox") as inbox:
        async def fill():
            while True:
                await conn.post("self:inbox", bytes(10000))
                fill.count += 1
        fill.count = 0
        task = asyncio.create_task(fill())
        last = -1
        while last != fill.count:
            last = fill.count
            await asyncio.sleep(SHORT)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        sent, taken = fill.count, 0
        marker = asyncio.create_task(conn.send("self:inbox", b"marker", timeout=LONG))
        async for message in inbox:
            if len(message) == 6:
                break
            taken += 1
        await marker
        assert taken == sent and sent > 5


async def test_a_receiver_that_is_cancelled_loses_nothing(one, two):
    async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other, other.bind("inbox") as inbox:
        async def send():
            for number in range(500):
                await conn.send("2:inbox", b"%d" % number, timeout=LONG)
        sending = asyncio.create_task(send())
        got = []
        while len(got) < 500:
            waiting = asyncio.create_task(inbox.recv())
            for _ in range(len(got) % 7):
                await asyncio.sleep(0)
            waiting.cancel()
            try:
                got.append(int(bytes(await waiting)))
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                try:
                    got.append(int(bytes(await inbox.recv(0.001))))
                except xenmsg.TimedOut:
                    pass
        await sending
        assert got == list(range(500))


@pytest.mark.unless(renewed="sleeping")
def test_what_is_withdrawn_makes_room_for_a_blocking_send(one, two):
    """Nothing of the sender's own comes to its end then, which would have it look again."""
    with xenmsg.blocking.open(one.socket) as conn, xenmsg.blocking.open(two.socket) as other, other.bind("inbox") as inbox:
        while outcome := conn._core.post("2:inbox", bytes(60000)):
            assert outcome.withdraw()
            with pytest.raises(xenmsg.TimedOut):
                conn.wait(outcome)
        sender = threading.Thread(target=conn.send, args=("2:inbox", b"last" * 15000), daemon=True)
        sender.start()
        sender.join(SHORT)  # it waits
        assert bytes(inbox.recv(timeout=LONG)) == b"last" * 15000
        sender.join(LONG)
        assert not sender.is_alive()


def test_a_signal_ends_a_blocking_send_which_is_withdrawn(one, two):
    class Interrupted(Exception):
        pass

    def interrupt(*_):
        raise Interrupted
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with xenmsg.blocking.open(one.socket) as conn, xenmsg.blocking.open(two.socket) as other, \
                other.bind("inbox") as inbox:
            for action in (lambda: conn.send("2:inbox", b"never"), inbox.recv, lambda: conn.call("2:inbox", b"never")):
                signal.setitimer(signal.ITIMER_REAL, SHORT)
                with pytest.raises(Interrupted):
                    action()
            conn.post("2:inbox", b"marker")
            assert bytes(inbox.recv(LONG)) == b"marker"
            conn.flush(LONG)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


async def test_a_daemon_that_stands_still_holds_nobody_for_ever(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("inbox"):
        with stopped(one.pid):
            unknown = await raises(errno.ECONNRESET, conn.send("self:inbox", b"x", timeout=SHORT))
            assert not unknown.definite and "can't be known" in str(unknown)


async def test_asyncio_needs_no_thread_and_gives_up_what_is_cancelled(one, two):
    def no_thread(*_):
        raise AssertionError("a thread of the executor")
    asyncio.get_running_loop().run_in_executor = no_thread
    async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other, other.listen("shell") as shell, \
            conn.watch("2") as watch:
        assert (await watch.next(LONG)).domid == 2
        reader, writer = await conn.connect("2:shell", timeout=LONG)
        accepted = await shell.accept(LONG)
        accepted.writer.write(b"by itself")
        accepted.writer.close()
        assert await reader.read() == b"by itself"
        writer.close()
        assert 0 < await conn.ping("2", timeout=LONG) < LONG
        assert (await conn.status())["domid"] == 1
        with stopped(one.pid):
            begun = [asyncio.create_task(each) for each in (
                conn.ping("2"), conn.connect("2:shell"), conn.query("peers"), conn.bind("inbox").recv(),
                xenmsg.open(one.socket).__aenter__())]
            await asyncio.sleep(0)
            for task in begun:
                task.cancel()
            assert all(isinstance(each, asyncio.CancelledError)
                       for each in await asyncio.gather(*begun, return_exceptions=True))
        # Nothing is left of it.
        async with conn.bind("inbox") as inbox:
            _, message = await asyncio.gather(conn.send("self:inbox", b"free", timeout=LONG), inbox.recv(LONG))
            assert bytes(message) == b"free"


# ---- calls ----

async def test_what_is_sent_waits_for_its_receiver(one, two):
    async def answer(message):
        return bytes(message).upper()

    async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other:
        waits = [await conn.post("2:inbox", b"first", wait=True), asyncio.create_task(conn.send("2:inbox", b"second", wait=True)),
                 asyncio.create_task(conn.call("2:work", b"word", wait=True, timeout=LONG))]
        connecting = asyncio.create_task(conn.connect("2:stream", wait=True))
        late = await raises(errno.ETIMEDOUT, conn.send("2:never", b"x", wait=True, timeout=SHORT))
        assert late.fate == xenmsg.Fate.NOT_DONE
        cancelled = asyncio.create_task(conn.send("2:never", b"x", wait=True))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await cancelled
        assert xenmsg.Abandoned.of(caught.value).delivered is False
        assert not waits[0].done()
        serving = asyncio.create_task(other.serve("work", answer))
        async with other.bind("inbox") as inbox:
            assert [bytes(await inbox.recv(LONG)) for _ in range(2)] == [b"first", b"second"]
        async for _, writer, _ in other.listen("stream"):
            writer.close()
            break
        (await connecting)[1].close()
        assert [answer and bytes(answer) for answer in await asyncio.gather(*waits)] == [None, None, b"WORD"]
        serving.cancel()
    with xenmsg.blocking.open(one.socket) as conn:
        for begin in (conn.send, conn.call):
            with pytest.raises(xenmsg.TimedOut):
                begin("2:never", b"x", wait=True, timeout=SHORT)
        with pytest.raises(xenmsg.TimedOut):
            conn.connect("2:never", wait=True, timeout=SHORT)


async def test_calls_get_their_replies(one, two):
    asked, failures = [], []
    raised = {b"denied": PermissionError(errno.EPERM, "no"), b"undecided": OSError(errno.ENODATA, "not what ENODATA means elsewhere"),
              b"late": TimeoutError(errno.ETIMEDOUT, "the handler's own"), b"broken": ValueError("as the test wants it"),
              b"passed on": xenmsg.Answered(65535, b"with words")}

    async def handler(message):
        text = bytes(message)
        asked.append(text)
        if text in raised:
            raise raised[text]
        if text == b"failed":
            message.reply_exit_status(7)
            return None
        if text == b"no bytes":
            return "text"
        if text == b"no data":
            raise xenmsg.Answered(17, "text")
        if text == b"done, then broken":
            message.reply(b"done")
            raise ValueError("when it was answered")
        await asyncio.sleep(0)
        return text[::-1]

    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))
    async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other, served(two, other, "turn", handler, concurrency=8):
        replies = await asyncio.gather(*(conn.call("2:turn", b"%d" % number, timeout=LONG) for number in range(10, 300)))
        assert [bytes(reply) for reply in replies] == [(b"%d" % number)[::-1] for number in range(10, 300)]
        # Whatever isn't an answer is told here, and the caller gets no number of it: nothing is tried again for it.
        for text in (b"denied", b"undecided", b"late", b"broken", b"no bytes", b"no data"):
            own = await answers(errno.EIO, conn.call("2:turn", text, timeout=LONG))
            assert own.fate is xenmsg.Fate.DONE and not own.definite and own.data == b"" and not isinstance(own, TimeoutError)
        assert asked.count(b"undecided") == 1
        assert bytes(await conn.call("2:turn", b"done, then broken", timeout=LONG)) == b"done"
        await soon(lambda: len(failures) == 7, "that it is broken is told, too")
        assert (await answers(errno.EIO, conn.call("2:turn", b"failed"))).exit_status == 7
        passed_on = await answers(65535, conn.call("2:turn", b"passed on"))
        assert passed_on.data == b"with words" and str(passed_on) == "2:turn answered: error 65535: with words"
        two.receiver("refuses", "--confirm", "--exec", "false")
        assert (await answers(errno.EIO, conn.send("2:refuses", b"message", timeout=LONG))).fate is xenmsg.Fate.NOT_DONE
        assert [type(failure) for failure in failures] == [PermissionError, OSError, TimeoutError, ValueError, TypeError, TypeError,
                                                            ValueError]
        await raises(errno.EPROTOTYPE, conn.send("2:turn", b"no call"))
    async with xenmsg.open(one.socket) as conn:
        nobody = await raises(errno.ENOENT, conn.call("2:turn", b""))
        assert nobody.definite and nobody.fate is xenmsg.Fate.NOT_DONE


def test_calls_without_asyncio(one, two, caplog):
    def handler(message):
        if bytes(message) == b"refused":
            raise xenmsg.Answered(17, b"with words")
        if bytes(message) == b"broken":
            raise ValueError("as the test wants it")
        return bytes(message)[::-1] if len(message) else os.stat("/nonexistent")

    def serve():
        with xenmsg.blocking.open(two.socket) as conn, pytest.raises(xenmsg.NoDaemon, match="gone away"):
            conn.serve("turn", handler)
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    eventually(lambda: "turn" in two.endpoints(), "turn is bound")
    with xenmsg.blocking.open(one.socket) as conn:
        assert bytes(conn.call("2:turn", b"stressed", timeout=LONG)) == b"desserts"
        for text, error in ((b"", f"error {errno.EIO}$"), (b"broken", f"error {errno.EIO}$"), (b"refused", "error 17: with words$")):
            with pytest.raises(xenmsg.Answered, match=f"answered: {error}"):
                conn.call("2:turn", text, timeout=LONG)
        assert [record.exc_info[0] for record in caplog.records if record.name == "xenmsg"] == [FileNotFoundError, ValueError]
        assert bytes(conn.call("2:turn", b"stressed", timeout=LONG)) == b"desserts"
    two.stop()  # which ends the server
    thread.join(LONG)
    assert not thread.is_alive()


async def test_a_paused_endpoint_takes_nothing_until_it_goes_on(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("inbox") as inbox:
        inbox.pause()
        sent = await conn.post("self:inbox", b"waits")
        with pytest.raises(xenmsg.TimedOut):
            await inbox.recv(0.2)
        assert not sent.done()
        taking = asyncio.create_task(inbox.recv(LONG))
        await asyncio.sleep(0)
        inbox.resume()
        assert bytes(await taking) == b"waits"
        await sent
    with xenmsg.blocking.open(one.socket) as conn, conn.bind("inbox") as inbox:
        inbox.pause()
        sent = conn.post("self:inbox", b"waits")
        with pytest.raises(xenmsg.TimedOut):
            inbox.recv(0.2)
        inbox.resume()
        assert bytes(inbox.recv(LONG)) == b"waits"
        conn.wait(sent, LONG)


async def test_a_drained_endpoint_answers_what_it_has_and_nothing_new(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("turn") as inbox:
        asked = await conn.begin_call("self:turn", b"abc", timeout=LONG)
        message = await inbox.recv(LONG)
        draining = asyncio.create_task(inbox.drain(LONG))
        await soon(lambda: "turn" not in one.endpoints(), "it is bound no more")
        await raises(errno.ENOENT, conn.call("self:turn", b"new", timeout=LONG))
        assert not draining.done()
        message.reply(b"cba")
        assert bytes(await asked) == b"cba"
        await draining
    with xenmsg.blocking.open(one.socket) as conn, conn.bind("turn") as inbox:
        caller = one.popen("call", "self:turn", "abc")
        inbox.recv(LONG).reply(b"cba")
        inbox.drain(LONG)
        assert caller.communicate(timeout=LONG)[0].strip() == b"cba"
        with pytest.raises(xenmsg.Error):
            conn.send("self:turn", b"new", timeout=LONG)


@pytest.mark.parametrize("concurrency", (1, 8))
async def test_a_handler_whose_caller_has_gone_is_cancelled(one, two, concurrency):
    begun, cancelled = [], []

    async def handler(message):
        begun.append(bytes(message))
        if begun[-1] == b"answers itself":
            message.reply(b"itself")
            await asyncio.sleep(SHORT)  # in which it isn't taken for one who waits in vain
            return None
        if begun[-1] != b"forever":
            return begun[-1]
        try:
            await asyncio.sleep(10 * LONG)
        except asyncio.CancelledError:
            cancelled.append(message.withdrawn)
            raise

    async with xenmsg.open(two.socket) as other, served(two, other, "work", handler, concurrency=concurrency) as serving:
        async with xenmsg.open(one.socket) as conn:
            assert bytes(await conn.call("2:work", b"at once", timeout=LONG)) == b"at once"  # so that the next is there in time
            seconds = SHORT
            while not begun.count(b"forever"):  # on a slow machine it comes too late
                seconds *= 4
                late = await raises(errno.ETIMEDOUT, conn.call("2:work", b"forever", timeout=seconds))
            assert late.fate is xenmsg.Fate.UNKNOWN
            await soon(lambda: cancelled == [True], "the handler is cancelled: its caller has given up")
            assert bytes(await conn.call("2:work", b"answers itself", timeout=LONG)) == b"itself"
            dying = asyncio.create_task(conn.call("2:work", b"forever"))
            await soon(lambda: begun.count(b"forever") == 2, "it is called again")
        await asyncio.gather(dying, return_exceptions=True)
        await soon(lambda: cancelled == [True, True], "the handler is cancelled: its caller has gone")
        async with xenmsg.open(one.socket) as conn:
            assert bytes(await conn.call("2:work", b"next", timeout=LONG)) == b"next"
        assert not serving.done()


@contextlib.contextmanager
def answering(node, reply, blocking):
    """A server of calls to self:big, at two places, until its daemon is stopped."""
    async def handler(message):
        return reply

    async def serve():
        async with xenmsg.open(node.socket) as conn:
            await conn.serve("big", handler, concurrency=2)

    def work():
        with pytest.raises(xenmsg.Error, match="gone away"):
            if not blocking:
                asyncio.run(serve())
            with xenmsg.blocking.open(node.socket) as conn:
                conn.serve("big", lambda message: reply)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    eventually(lambda: "big" in node.endpoints(), "big is bound")
    yield
    node.stop()  # which ends the server
    thread.join(LONG)
    assert not thread.is_alive()


@pytest.mark.parametrize("blocking", (False, True))
def test_who_reads_no_replies_holds_up_no_other_for_long(nodes, blocking):
    node, = nodes(1, config=FAST + "[limits]\nmax-message = 1M\n").values()
    reply = bytes(1000000)
    with answering(node, reply, blocking), xenmsg.blocking.open(node.socket) as greedy, xenmsg.blocking.open(node.socket) as other:
        outcomes = [greedy._core.call_post("self:big", b"") for _ in range(30)]
        assert all(outcomes)
        for _ in range(30):  # so that it has come to each of the others
            assert bytes(other.call("self:big", b"", timeout=40)) == reply
        eventually(lambda: greedy._core.wait(50) is not None and all(outcome.done() for outcome in outcomes), "each has its outcome")
        assert {outcome.errno for outcome in outcomes} == {0, errno.EREMOTEIO}


@pytest.mark.parametrize("blocking", (False, True))
def test_a_user_with_many_sleeping_callers_holds_nobody_for_long(nodes, blocking):
    one, two = nodes(1, 2, config=FAST + "[limits]\nmax-message = 1M\n").values()
    reply = bytes(1000000)
    with answering(one, reply, blocking), xenmsg.blocking.open(two.socket) as other:
        def call():
            assert bytes(other.call("1:big", b"", timeout=200)) == reply
        holds_nobody_for_long(call, one, "self:big", places=2)


async def test_a_call_is_answered_once_or_by_being_dropped(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("work") as work:
        call = asyncio.create_task(conn.call("self:work", b"x"))
        message = await work.recv(LONG)
        assert message.wants_reply and call.done() is False
        message.reply(b"once")
        with pytest.raises(xenmsg.Error) as again:
            message.reply(b"twice")
        assert again.value.errno == errno.EALREADY and bytes(await call) == b"once"
        call = asyncio.create_task(conn.call("self:work", b"x"))
        message = await work.recv(LONG)
        del message
        await answers(xenmsg.Answered.UNANSWERED, call)
        # Cancelled when it has been answered with an error already.
        outcome = conn._core.call_post("self:work", b"x")
        message = await work.recv(LONG)
        message.reply_error(errno.EPERM)
        await soon(outcome.done, "it is answered")
        assert xenmsg.Abandoned(outcome).delivered is True
        # Taken, but given up: the server is told, and the caller that it may have been carried out.
        call = asyncio.create_task(conn.call("self:work", b"x"))
        message = await work.recv(LONG)
        await asyncio.sleep(SHORT)
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await call
        assert xenmsg.Abandoned.of(cancelled.value).delivered is None
        while message.wants_reply:
            with pytest.raises(xenmsg.TimedOut):
                await work.recv(SHORT)  # which reads that it was withdrawn
        call, message = await taken_in_time(conn, "self:work", work)
        late = await raises(errno.ETIMEDOUT, call)
        assert late.fate is xenmsg.Fate.UNKNOWN and not late.definite and "may have been carried out" in str(late)


# ---- streams, and who is there ----

async def test_streams_are_those_of_asyncio(one, two):
    data = os.urandom(3 << 20)
    async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other:
        async with other.listen("echo") as listener:
            was_read = asyncio.Event()   # asyncio throws away what it has read when a reset comes

            async def serve():
                async for reader, writer, peer in listener:
                    assert (peer.domid, peer.pid, peer.endpoint) == (1, os.getpid(), "echo")
                    assert peer.channel.startswith(f"1.{os.getpid()}.")
                    come = await reader.read()
                    writer.write(come)
                    await writer.drain()
                    if come == b"break":
                        await was_read.wait()
                        await xenmsg.break_stream(writer)
                    else:
                        writer.close()
            serving = asyncio.create_task(serve())
            reader, writer = await conn.connect("2:echo", timeout=LONG)
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data
            writer.close()
            reader, writer = await conn.connect("2:echo", timeout=LONG)
            writer.write(b"break")
            writer.write_eof()
            assert await reader.readexactly(5) == b"break"
            was_read.set()
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
        await soon(lambda: "echo" not in two.endpoints(), "the endpoint is gone")
        await raises(errno.ENOENT, conn.connect("2:echo"))


def opened_and_accepted(conn, address, listener):
    """Both ends of a stream, and who has opened it."""
    opened = []
    thread = threading.Thread(target=lambda: opened.append(conn.connect(address, timeout=LONG)))
    thread.start()
    stream, peer = listener.accept(timeout=LONG)
    thread.join(LONG)
    return opened[0], stream, peer


def test_streams_without_asyncio_are_sockets(one, two):
    with xenmsg.blocking.open(one.socket) as conn, xenmsg.blocking.open(two.socket) as other, other.listen("shell") as listener:
        with pytest.raises(xenmsg.TimedOut):
            listener.accept(timeout=0)
        opened, stream, peer = opened_and_accepted(conn, "2:shell", listener)
        assert peer.domid == 1
        with stream, opened:
            opened.sendall(b"hello")
            opened.shutdown(socket.SHUT_WR)
            assert stream.makefile("rb").read() == b"hello"


def test_who_is_on_another_host_is_told(hosts):
    here, there = hosts()
    with xenmsg.blocking.open(here.socket) as conn, xenmsg.blocking.open(there.socket) as other, \
            other.listen("shell") as listener, other.bind("inbox") as inbox:
        outcome = conn.post("hostb/0:inbox", b"across")
        assert next(iter(inbox)).sender_host == "hosta"
        conn.wait(outcome, LONG)
        opened, stream, peer = opened_and_accepted(conn, "hostb/0:shell", listener)
        assert (peer.host, peer.domid) == ("hosta", 0)
        stream.close()
        opened.close()


async def test_comings_and_goings_are_told(one, two):
    async with xenmsg.open(one.socket) as conn, xenmsg.open(two.socket) as other, conn.watch("2:print*") as watch:
        assert await watch.next(LONG) == (xenmsg.EventKind.LISTED, 0, "", "", "")
        async with other.bind("printer"):
            event = await watch.next(LONG)
            assert event == (xenmsg.EventKind.ENDPOINT_UP, 2, "printer", event.domain_name, "")
        assert (await watch.next(LONG)).kind == xenmsg.EventKind.ENDPOINT_DOWN
        with pytest.raises(TimeoutError):
            await watch.next(0.01)
        status, again = await conn.status(), await conn.query("status")
        assert status["domid"] == again["domid"] == 1
        assert 0 < await conn.ping("2", timeout=LONG) < LONG
        await raises(errno.EHOSTDOWN, conn.ping("99", timeout=LONG))
    with xenmsg.blocking.open(one.socket) as conn, xenmsg.blocking.open(two.socket) as other, conn.watch("2:print*") as watch:
        assert watch.next(LONG).kind == xenmsg.EventKind.LISTED
        with other.bind("printer"):
            assert watch.next(LONG).name == "printer"
        assert watch.next(LONG).kind == xenmsg.EventKind.ENDPOINT_DOWN
        assert conn.ping("2", timeout=LONG) > 0 and conn.status()["domid"] == 1


def test_another_host_is_watched_and_asked(hosts):
    here, there = hosts()
    with xenmsg.blocking.open(here.socket) as conn, xenmsg.blocking.open(there.socket) as other, other.bind("print"):
        assert [entry["name"] for entry in conn.query("endpoints hostb/0")] == ["print"]
        assert [host["host"] for host in conn.query("hosts")] == ["hosta", "hostb"]
        with conn.watch("hostb/0:pr*") as watch:
            event = watch.next(LONG)
            assert (event.kind, event.host) == (xenmsg.EventKind.HOST_UP, "hostb")
            event = watch.next(LONG)
            assert (event.kind, event.host, event.domid, event.name) == (xenmsg.EventKind.ENDPOINT_UP, "hostb", 0, "print")
            assert watch.next(LONG) == (xenmsg.EventKind.LISTED, 0, "", "", "hostb")


def test_a_daemon_that_does_not_answer_is_waited_for(tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        began = time.monotonic()
        with pytest.raises(xenmsg.TimedOut):
            xenmsg.blocking.open(path, timeout=0.2)
        assert time.monotonic() - began < 10, "which is the usual time"
        with pytest.raises(xenmsg.TimedOut):
            asyncio.run(awaited(xenmsg.open(path, timeout=0.2)))


async def awaited(what):
    return await what
