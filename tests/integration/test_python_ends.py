# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ends of what the Python module holds, and the package: its manual, its types, its installation."""

import ast
import asyncio
import contextlib
import errno
import gc
import glob
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

from messaging import eventually, read_source
from python_module import DIRECTORY, LONG, SHORT, SOURCES, python, raises, soon, taken_in_time, xenmsg
from renewing import renew


# ---- ends ----

async def test_the_death_of_the_daemon_ends_everything_once(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("inbox") as inbox, conn.watch("*") as watch:
        async def rest():
            async for _ in watch:
                pass
        watching = asyncio.create_task(rest())
        posted = [await conn.post("self:inbox", b"x") for _ in range(100)]
        sending = asyncio.create_task(conn.send("self:inbox", b"x"))
        for _ in range(101):
            await inbox.recv(LONG)
        receiving = asyncio.create_task(inbox.recv())
        again = [await conn.post("self:elsewhere", b"x")]
        one.kill()
        results = await asyncio.gather(sending, receiving, watching, *posted, *again, return_exceptions=True)
        assert [getattr(result, "errno", None) for result in results[1:3]] == [errno.ENOTCONN] * 2, results[:3]
        for result in results[3:]:
            assert result is None or result.errno in (errno.ECONNRESET, errno.ENOTCONN, errno.ENOENT), result
        assert conn.pending == 0
        await raises(errno.ENOTCONN, conn.send("self:inbox", b""))
        await raises(errno.ENOTCONN, inbox.recv())
    one.start()


async def test_a_connection_goes_on_with_the_next_daemon(one):
    told = []
    async with xenmsg.open(one.socket, reconnect=True) as conn, conn.bind("inbox") as inbox, conn.watch("self:*") as watch:
        conn.on_change = told.append
        watched = await watch.next(LONG)
        assert watched.name == "inbox"
        assert (await watch.next(LONG)).kind == xenmsg.EventKind.LISTED
        for times in range(2):
            one.kill()
            await soon(lambda: len(told) == 2 * times + 1, "the loss is told")
            sending = asyncio.create_task(conn.send("self:nobody", b"waits for the next one", timeout=LONG))
            await asyncio.to_thread(one.start)
            await soon(lambda: len(told) == 2 * times + 2, "so is the end of it")
            await raises(errno.ENOENT, sending)
            # An endpoint has a connection of its own, which may be back later.
            await asyncio.to_thread(eventually, lambda: "inbox" in one.endpoints(), "it is bound again")
            sending = asyncio.create_task(conn.send("self:inbox", b"%d" % times))
            assert bytes(await inbox.recv(LONG)) == b"%d" % times
            await sending
            assert {(await watch.next(LONG)).name for _ in range(2)} == {"inbox", ""}  # and where its list ends
        assert [change.kind.name for change in told] == ["LOST", "BACK"] * 2


async def test_what_the_next_daemon_refuses_raises(one):
    async with xenmsg.open(one.socket, reconnect=True) as conn, conn.bind("inbox") as inbox:
        receiving = asyncio.create_task(inbox.recv())
        await asyncio.sleep(0)
        one.kill()
        await asyncio.to_thread(one.write_policy, "[bind]\nname = inbox\nuid = *\naction = deny\n")
        one.policy = None
        await asyncio.to_thread(one.start)
        await raises(errno.EACCES, receiving)
    with xenmsg.blocking.open(one.socket, reconnect=True) as conn, conn.bind("other") as other:
        one.kill()
        one.write_policy("[bind]\nname = other\nuid = *\naction = deny\n")
        one.start()
        with pytest.raises(xenmsg.Error) as raised:
            other.recv(LONG)
        assert raised.value.errno == errno.EACCES
        with contextlib.suppress(xenmsg.Error):
            conn.ping("self")  # by which the loss is noticed
        conn.ping("self")
        assert [change.kind.name for change in conn.changes()] == ["LOST", "BACK"]


async def test_close_ends_what_is_on_its_way(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("inbox") as inbox:
        sending = asyncio.create_task(conn.send("self:inbox", b"x"))
        receiving = asyncio.create_task(inbox.__anext__())
        await soon(receiving.done, "the first comes")
        await sending
        sending = [asyncio.create_task(conn.send("self:inbox", bytes(1000))) for _ in range(3)]
        while conn.pending < 3:
            await asyncio.sleep(0)
        conn.close()
        results = await asyncio.gather(*sending, return_exceptions=True)
        assert {result.errno for result in results} <= {errno.ECANCELED, errno.ECONNRESET}
        async def iterate():
            async for _ in inbox:
                pass
        iterating = asyncio.create_task(iterate())
        await asyncio.sleep(0.01)
        inbox.close()
        await iterating
        inbox.close()
        conn.close()


async def test_what_is_forgotten_is_closed(one, recwarn):
    before = len(os.listdir("/proc/self/fd"))
    conn = await xenmsg.open(one.socket)
    async def send():
        await soon(lambda: "inbox" in one.endpoints(), "inbox is bound")
        await conn.send("self:inbox", b"x")
    sending = asyncio.create_task(send())
    async for message in conn.bind("inbox"):
        assert bytes(message) == b"x"
        break
    await sending
    await soon(lambda: "inbox" not in one.endpoints(), "the endpoint is gone with its loop")
    # Posted and forgotten: it stays until the outcome is known, and no longer.
    inbox = await conn.bind("later")
    await conn.post("self:later", b"y")
    del conn
    gc.disable()
    try:
        assert bytes(await inbox.recv(LONG)) == b"y"
        inbox.close()
        await soon(lambda: len(os.listdir("/proc/self/fd")) <= before, "no descriptor is left, without the collector")
    finally:
        gc.enable()
    assert any("not closed" in str(warning.message) for warning in recwarn.list)


def test_a_cycle_holds_no_connection(one):
    gc.collect()  # what other tests have left
    before = len(os.listdir("/proc/self/fd"))
    conn = xenmsg.blocking.open(one.socket)
    inbox = conn.bind("inbox")
    outcome = conn.post("self:inbox", b"x")
    outcome.waiter = [conn, outcome]
    del conn, outcome, inbox
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.unless(renewed="sleeping")
def test_what_is_done_often_leaves_no_memory(one):
    """Nor what fails: each of these leaves C by another way."""
    with xenmsg.blocking.open(one.socket) as conn, conn.bind("inbox") as inbox, conn.listen("streams") as listener:
        core = conn._core
        wrong = (lambda: core.post("self:inbox"), lambda: core.post("a\0b", b""), lambda: core.post("self:inbox", "text"),
                 lambda: core.post("!", b""), lambda: core.begin_bind("inbox", False, False, False), lambda: core.begin_query(1),
                 lambda: core.begin_subscribe("self:news", 1 << 20, False, False), lambda: core.begin_bind("!", True, True, False))

        def each(times):
            for _ in range(times):
                posted = conn.post("self:inbox", b"x")
                message = inbox.recv(LONG)
                assert (bytes(message), message.data[0], message.sender_domid, message.trace) == (b"x", ord("x"), 1, "")
                conn.wait(posted, LONG)
                called = conn.begin_call("self:inbox", b"x")
                inbox.recv(LONG).reply_error(7, b"data")
                with contextlib.suppress(xenmsg.Answered):
                    conn.wait(called, LONG)
                with contextlib.suppress(xenmsg.NotFound):
                    conn.send("self:nobody", b"x")
                near, (far, _) = conn.connect("self:streams", timeout=LONG), listener.accept(LONG)
                near.close()
                far.close()
                for action in wrong:
                    with contextlib.suppress(xenmsg.Error, TypeError, ValueError):
                        action()
                del message, posted, called
        each(50)
        gc.collect()
        before = sys.getallocatedblocks()
        each(300)
        gc.collect()
        assert sys.getallocatedblocks() - before < 150, "less than one for two rounds"


@pytest.mark.unless(renewed="sleeping")
@pytest.mark.parametrize("begin", ("post", "begin_call"))
def test_what_is_begun_after_a_hand_over_goes_out_at_once(one, begin):
    """Nothing has used the connection since, and nothing does afterwards."""
    with xenmsg.blocking.open(one.socket) as conn, conn.bind("inbox") as inbox:
        renew(one)
        begun = getattr(conn, begin)("self:inbox", b"x")
        message = inbox.recv(LONG)
        assert bytes(message) == b"x"
        if message.wants_reply:
            message.reply(b"")
        del message
        conn.wait(begun, LONG)


@pytest.mark.unless(renewed="sleeping")
def test_a_child_leaves_the_parents_connection_alone(one):
    with xenmsg.blocking.open(one.socket) as conn, conn.bind("inbox") as inbox:
        outcome = conn.post("self:inbox", b"x")
        message = inbox.recv(LONG)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                for action in (lambda: conn.post("self:inbox", b"y"), lambda: inbox.recv(0), lambda: message.reply(b"")):
                    with pytest.raises(xenmsg.Error, match="fork") as refused:
                        action()
                    assert refused.value.errno == errno.ECHILD
                before = len(os.listdir("/proc/self/fd"))
                conn.close()
                inbox.close()
                assert conn.closed and not conn.pending and len(os.listdir("/proc/self/fd")) < before
                copy = bytes(message)
                assert conn._core.take_failed() is outcome  # the last reference but this one
                del message, conn, inbox, outcome
                gc.collect()
                os.fstat(0)  # nothing was taken for a stream of ours
                with xenmsg.blocking.open(one.socket) as own:
                    own.post("self:inbox", copy + b" of the child")
                    own.flush(LONG)
                status = 0
            finally:
                os._exit(status)
        assert bytes(inbox.recv(LONG)) == b"x of the child"
        assert os.waitpid(child, 0)[1] == 0
        conn.wait(outcome, LONG)
        conn.post("self:inbox", b"z")
        assert bytes(inbox.recv(LONG)) == b"z"
        conn.flush(LONG)


def test_what_is_no_outcome_is_refused(one):
    core = importlib.import_module("xenmsg._core")
    for not_one in (object, int, core.Connection):
        with pytest.raises(TypeError, match="a subclass of Outcome"):
            core.Connection(one.socket, not_one)


@pytest.mark.parametrize("use", (
    lambda core, number: core.wait(number),
    lambda core, number: core.recv(number),
    lambda core, number: core.accept(number),
    lambda core, number: core.begin_connect("self:inbox", number),
    lambda core, number: core.begin_ping("self", number),
    lambda core, number: core.sent_name("self:inbox", number),
    lambda core, number: core.begin_bind("inbox", True, number, False),
    lambda core, number: core.begin_listen("inbox", number),
))
def test_an_argument_may_close_the_connection(one, use):
    core = importlib.import_module("xenmsg._core").Connection(one.socket)

    class Closes:
        def __index__(self):
            core.close()
            return 0

        def __bool__(self):
            return bool(self.__index__())
    with pytest.raises(xenmsg.Error) as error:
        use(core, Closes())
    assert error.value.errno == errno.ENOTCONN


@pytest.mark.parametrize("path", (b"/nowhere/\xff", os.fsdecode(b"/nowhere/\xff")))
@pytest.mark.parametrize("opened", (lambda path: xenmsg.blocking.open(path), lambda path: asyncio.run(xenmsg.open(path)._make())))
def test_a_path_may_have_any_bytes(path, opened):
    with pytest.raises(xenmsg.NoDaemon) as error:
        opened(path)
    assert os.fsencode(error.value.address) == b"/nowhere/\xff"
    assert ascii(str(error.value))


def test_another_interpreter_has_errors_of_its_own():
    interpreters = importlib.import_module("_xxsubinterpreters")
    other = interpreters.create()
    try:
        interpreters.run_string(other, f"import sys; sys.path[:0] = {sys.path!r}\n" """
import xenmsg.blocking
for _ in range(2):
    try:
        xenmsg.blocking.open("/nowhere/socket")
    except xenmsg.NoDaemon as error:
        assert type(error) is xenmsg.NoDaemon
    else:
        raise AssertionError("it is open")
""")
    finally:
        interpreters.destroy(other)


def test_a_connection_belongs_to_one_thread_at_a_time(one):
    with xenmsg.blocking.open(one.socket) as conn, conn.bind("inbox") as inbox:
        conn.post("self:inbox", b"first")
        first = inbox.recv(LONG)
        second = []
        thread = threading.Thread(target=lambda: second.append(inbox.recv(LONG)))
        thread.start()

        def refused():
            try:
                inbox.fileno()
            except RuntimeError as error:
                return "another thread" in str(error)
            return False
        eventually(refused, "the thread waits")
        with pytest.raises(RuntimeError, match="another thread"):
            first.reply(b"")
        assert bytes(first) == b"first"
        del first  # freed when the thread is back
        conn.post("self:inbox", b"second")
        thread.join(LONG)
        assert bytes(second[0]) == b"second"
        conn.flush(LONG)


def test_the_end_of_the_interpreter_is_quiet(one):
    program = """if True:
        import asyncio, threading, xenmsg
        conn = xenmsg.blocking.open()
        inbox = conn.bind("inbox")
        conn.post("self:inbox", b"x"); conn.post("self:inbox", b"y")
        message = inbox.recv()
        other = conn.bind("other")
        threading.Thread(target=other.recv, daemon=True).start()
        async def main():
            async with xenmsg.open() as conn, conn.bind("third") as third:
                await conn.post("self:third", b"z")
                asyncio.create_task(third.recv())
                asyncio.create_task(conn.send("self:other", b""))
                await asyncio.sleep(0.05)
        asyncio.run(main())
        print("done")
    """
    done = one.run_command(*python("-c", program))
    assert (done.returncode, done.stdout) == (0, b"done\n"), done.stderr
    assert b"Fatal" not in done.stderr and b"Traceback" not in done.stderr, done.stderr


# ---- the package ----

def test_what_the_manual_prints_works(one, two, tmp_path):
    program, = re.findall(r"```python\n(.*?)```", read_source("doc", "python.md"), re.DOTALL)
    assert program.count('"5:inbox"') == program.count('"db:kv"') == 1
    receiver = two.receiver("inbox", "--count", "1")
    two.popen("serve", "kv", "--", "tr", "a-z", "A-Z", binds="kv")
    with open(tmp_path / "out", "wb") as out:
        one.popen_command(*python("-u", "-c", program.replace('"5:inbox"', '"2:inbox"').replace('"db:kv"', '"2:kv"')), stdout=out)
        assert receiver.output() == b"hello\n"
        eventually(lambda: "inbox" in one.endpoints(), "inbox is bound")
        two.send("1:inbox", "to the manual")
        eventually(lambda: (tmp_path / "out").read_text() == "GET COLOUR\n2 b'to the manual'\n", "it prints what came")


USER = """
import asyncio, sys, xenmsg
async def main() -> bytes:
    async with xenmsg.open() as conn:
        await conn.send("5:inbox", b"")
        outcome: xenmsg.Outcome[None] = await conn.post("5:inbox", bytearray())
        await outcome
        begun: xenmsg.Outcome[xenmsg.Message] = await conn.begin_call("5:turn", b"")
        print((await begun).sender_domid)
        async for message in conn.bind("inbox"):
            await conn.send("5:proxy", message)
        async for reader, writer, peer in conn.listen("x"):
            print(await reader.read(), peer.domid, writer)
        try:
            event: xenmsg.Event = await conn.watch("*").next()
            print(event)
        except xenmsg.Answered as answered:
            print(answered.code)
        except xenmsg.NotFound as failed:
            print(failed.fate)
        return bytes(await conn.call("5:turn", memoryview(b"")))
asyncio.run(main())
with xenmsg.blocking.open() as conn, conn.bind("inbox") as inbox:
    for message in inbox:
        conn.post("5:inbox", message.data)
        print(len(conn.wait(conn.begin_call("5:turn", message))), file=sys.stderr)
"""
EXAMPLES = glob.glob(os.path.join(SOURCES, "examples", "*.py"))


def test_the_types_are_sound(tmp_path):
    if not importlib.util.find_spec("mypy"):
        pytest.skip("no mypy")
    user = tmp_path / "user.py"
    user.write_text(USER)
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(user),
                           os.path.join(DIRECTORY, "xenmsg"), os.path.join(DIRECTORY, "xensim"), *EXAMPLES],
                          env=dict(os.environ, MYPYPATH=DIRECTORY), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("what", ['bind("inbox")', 'subscribe("5:news")', 'watch("*")', 'listen("x")'])
def test_what_a_loop_takes_is_typed(tmp_path, what):
    if not importlib.util.find_spec("mypy"):
        pytest.skip("no mypy")
    user = tmp_path / "user.py"
    user.write_text(f"import xenmsg\nasync def main() -> None:\n    async with xenmsg.open() as conn:\n        async for m in conn.{what}:\n"
                    "            m.replyy()\n")
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(user)],
                          env=dict(os.environ, MYPYPATH=DIRECTORY), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and 'has no attribute "replyy"' in done.stdout, done.stdout + done.stderr


def test_the_types_name_all_that_the_module_in_c_has():
    core = importlib.import_module("xenmsg._core")
    with open(os.path.join(DIRECTORY, "xenmsg", "_core.pyi"), encoding="utf-8") as file:
        stub = ast.parse(file.read())
    classes = [node for node in stub.body if isinstance(node, ast.ClassDef)]
    for place, body in [(core, stub.body), *((getattr(core, node.name), node.body) for node in classes)]:
        named = {node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
        named |= {node.target.id for node in body if isinstance(node, ast.AnnAssign)}
        assert {name for name in named if name[0] != "_"} == {name for name in vars(place) if name[0] != "_"}, place


def test_pyright_finds_nothing_strictly(tmp_path):
    pyright = shutil.which("pyright")
    if not pyright:
        pytest.skip("there is no pyright (npm's package)")
    (tmp_path / "user.py").write_text(USER)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({
        "include": [str(tmp_path / "user.py"), os.path.join(DIRECTORY, "xenmsg"), *EXAMPLES], "extraPaths": [DIRECTORY],
        "typeCheckingMode": "strict", "reportPrivateUsage": False, "reportMissingModuleSource": False, "pythonVersion": "3.10"}))
    done = subprocess.run([pyright, "-p", tmp_path / "pyrightconfig.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "0 errors" in done.stdout, done.stdout + done.stderr


def test_pip_installs_it_from_its_sources(tmp_path):
    if not all(map(importlib.util.find_spec, ("pip", "setuptools", "wheel"))):
        pytest.skip("no pip, setuptools or wheel")
    # pip leaves its work in the tree
    shutil.copytree(os.path.join(SOURCES, "bindings", "python"), tmp_path / "source")
    prefix = os.path.dirname(os.environ["XENMSG_BINDIR"])
    environment = dict(os.environ, PKG_CONFIG_PATH=os.path.join(prefix, "lib", "pkgconfig"))
    done = subprocess.run([sys.executable, "-c", "import setuptools.build_meta as backend; backend.build_sdist('..')"], cwd=tmp_path / "source",
                          env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    sources, = tmp_path.glob("xenmsg-*.tar.gz")
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps",
                           "--disable-pip-version-check", "--target", str(tmp_path / "target"), str(sources)], env=environment,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ask = "import importlib.metadata as m, xenmsg as x; print(x.__file__, x.Message, x.__version__ == m.version('xenmsg'))"
    done = subprocess.run([sys.executable, "-c", ask], cwd=tmp_path, env=dict(os.environ, PYTHONPATH=str(tmp_path / "target")),
                          capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(tmp_path / "target")) and done.stdout.endswith("'xenmsg.Message'> True\n"), done.stdout + done.stderr
    assert (tmp_path / "target" / "xenmsg" / "py.typed").exists()
    assert list((tmp_path / "target").glob("xenmsg-*.dist-info/**/COPYING"))


def test_the_installed_module_is_found_with_its_version():
    assert importlib.metadata.version("xenmsg") == xenmsg.__version__


# ---- nothing in silence ----

async def test_leaving_a_connection_waits_for_what_was_posted(one):
    async with xenmsg.open(one.socket) as other, other.bind("inbox") as inbox:
        async def leave():
            async with xenmsg.open(one.socket) as conn:
                await conn.post("self:inbox", b"last words")
        leaving = asyncio.create_task(leave())
        await asyncio.sleep(SHORT)
        assert not leaving.done(), "nobody has taken it yet"
        assert bytes(await inbox.recv(LONG)) == b"last words"
        await leaving
        with pytest.raises(xenmsg.NotFound):
            async with xenmsg.open(one.socket) as conn:
                await conn.post("self:nobody", b"x")
        with pytest.raises(KeyError):  # another error isn't held up, nor hidden
            async with xenmsg.open(one.socket) as conn:
                await conn.post("self:inbox", b"given up")
                raise KeyError
    with pytest.raises(xenmsg.NotFound), xenmsg.blocking.open(one.socket) as conn:
        conn.post("self:nobody", b"x")


async def test_an_accept_that_is_cancelled_loses_no_stream(one):
    async with xenmsg.open(one.socket) as conn, conn.listen("streams") as listener:
        for number in range(20):
            connecting = asyncio.create_task(conn.connect("self:streams", timeout=LONG))
            accepting = asyncio.create_task(listener.accept())
            for _ in range(number):  # to be cancelled in each of its steps
                await asyncio.sleep(0)
            while number > 10 and not connecting.done() and not accepting.done():
                await asyncio.sleep(0)
            accepting.cancel()
            if not isinstance((await asyncio.gather(accepting, return_exceptions=True))[0], asyncio.CancelledError):
                accepted = accepting.result()
            else:
                accepted = await listener.accept(LONG)
            reader, writer = await connecting
            accepted.writer.write(b"%d" % number)
            accepted.writer.close()
            assert await reader.read() == b"%d" % number
            writer.close()


async def test_a_call_tells_its_time_and_its_trace(one):
    async with xenmsg.open(one.socket) as conn, conn.bind("work") as work:
        calling = asyncio.create_task(conn.call("self:work", b"x", timeout=LONG, trace="00-12ab-1"))
        message = await work.recv(LONG)
        assert message.trace == "00-12ab-1" and LONG / 2 < message.time_left <= LONG
        name = re.fullmatch(rf"1[.]{os.getpid()}[.]\d+@\d+", message.name)
        assert name, message.name
        assert conn.sent_name("self:work", call=True) == message.name and conn.sent_name("self:work") is None
        message.reply(b"")
        assert (await calling).name is None, "an answer has no name"
        posted = await conn.post("self:work", b"x", trace="00-12ab-2")
        message = await work.recv(LONG)
        assert (message.trace, message.time_left) == ("00-12ab-2", None)
        assert conn.sent_name("self:work") == message.name
        await posted
        begun, message = await taken_in_time(conn, "self:work", work)
        with pytest.raises(xenmsg.TimedOut) as late:
            await begun
        assert late.value.fate is xenmsg.Fate.UNKNOWN and message.time_left is not None
        await soon(lambda: message.withdrawn or work._link.core.process() is None, "it is withdrawn")
        await raises(errno.EINVAL, conn.send("self:work", b"x", trace="\n"))


def test_exceptions_have_meanings_and_answers_are_apart():
    for number, kind in ((errno.ENOENT, xenmsg.NotFound), (errno.EACCES, xenmsg.Denied), (errno.ECONNRESET, xenmsg.Reset),
                         (errno.ETIMEDOUT, xenmsg.TimedOut), (errno.ENOTCONN, xenmsg.NoDaemon), (errno.EPERM, xenmsg.Failed),
                         (errno.ECANCELED, xenmsg.Cancelled), (errno.EAGAIN, xenmsg.Full)):
        error = xenmsg._errors.make_error(number, "", -1, "5:inbox")
        assert type(error) is kind and error.errno == number and isinstance(error, xenmsg.Failed)
    assert not issubclass(xenmsg.Answered, xenmsg.Failed) and issubclass(xenmsg.Answered, xenmsg.Error)
    assert issubclass(xenmsg.Denied, PermissionError) and issubclass(xenmsg.Reset, ConnectionResetError)
    assert issubclass(xenmsg.NoDaemon, ConnectionError) and issubclass(xenmsg.Full, BlockingIOError)


def test_what_a_later_library_tells_is_no_error():
    event = xenmsg._types.make_event((4711, 5, "name", "", ""))
    assert event.kind == 4711 and event.kind.name == "UNKNOWN_4711" and event.domid == 5
    assert xenmsg.EventKind(1) is xenmsg.EventKind.DOMAIN_UP
    assert xenmsg._errors.Error(errno.EIO, "", 9).fate is xenmsg.Fate.UNKNOWN
    with pytest.raises(ValueError):
        xenmsg.EventKind("up")


def test_a_blocking_connection_warns_when_it_is_not_closed(one):
    with pytest.warns(ResourceWarning, match="not closed"):
        conn = xenmsg.blocking.open(one.socket)
        del conn
        gc.collect()
