# SPDX-License-Identifier: LGPL-2.1-or-later
"""The ends of what the Python module holds, and the package: its manual, its types, its installation."""

import asyncio
import errno
import gc
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

from messaging import eventually
from python_module import DIRECTORY, LONG, SHORT, SOURCES, python, raises, run, soon, xenmsg


# ---- ends ----

def test_the_death_of_the_daemon_ends_everything_once(nodes):
    one, = nodes(1).values()

    async def main():
        async with xenmsg.open(one.socket) as conn, conn.bind("inbox") as inbox, conn.watch("*") as watch:
            async def rest():
                async for _ in watch:
                    pass
            watching = asyncio.create_task(rest())
            posted = [await conn.post("self:inbox", b"x") for _ in range(100)]
            sending = asyncio.create_task(conn.send("self:inbox", b"x"))
            await inbox.recv(LONG)
            receiving = asyncio.create_task(inbox.recv())
            while not receiving.done():  # those that have come already
                try:
                    await asyncio.wait_for(asyncio.shield(receiving), SHORT)
                    receiving = asyncio.create_task(inbox.recv())
                except TimeoutError:
                    break
            again = [await conn.post("self:elsewhere", b"x")]
            one.kill()
            results = await asyncio.gather(sending, receiving, watching, *posted, *again, return_exceptions=True)
            assert [getattr(result, "errno", None) for result in results[1:3]] == [errno.ENOTCONN] * 2, results[:3]
            for result in results[3:]:
                assert result is None or result.errno in (errno.ECONNRESET, errno.ENOTCONN, errno.ENOENT), result
            assert conn.pending == 0
            await raises(errno.ENOTCONN, conn.send("self:inbox", b""))
            await raises(errno.ENOTCONN, inbox.recv())
    run(main())
    one.start()


def test_close_ends_what_is_on_its_way(nodes):
    one, = nodes(1).values()

    async def main():
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
    run(main())


def test_what_is_forgotten_is_closed(nodes, recwarn):
    one, = nodes(1).values()

    async def main():
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
    run(main())
    assert any("not closed" in str(warning.message) for warning in recwarn.list)


def test_a_cycle_holds_no_connection(nodes):
    one, = nodes(1).values()
    gc.collect()  # what other tests have left
    before = len(os.listdir("/proc/self/fd"))
    conn = xenmsg.blocking.open(one.socket)
    inbox = conn.bind("inbox")
    outcome = conn.post("self:inbox", b"x")
    outcome.waiter = [conn, outcome]
    del conn, outcome, inbox
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_leaves_the_parents_connection_alone(nodes):
    one, = nodes(1).values()
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


@pytest.mark.parametrize("use", (
    lambda core, number: core.wait(number),
    lambda core, number: core.recv(number),
    lambda core, number: core.accept(number),
    lambda core, number: core.connect("self:inbox", number),
    lambda core, number: core.ping("self", number),
))
def test_an_argument_may_close_the_connection(nodes, use):
    one, = nodes(1).values()
    core = importlib.import_module("xenmsg._core").Connection(one.socket)

    class Closes:
        def __index__(self):
            core.close()
            return 0
    with pytest.raises(xenmsg.Error) as error:
        use(core, Closes())
    assert error.value.errno == errno.ENOTCONN


def test_a_connection_belongs_to_one_thread_at_a_time(nodes):
    one, = nodes(1).values()
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


def test_the_end_of_the_interpreter_is_quiet(nodes):
    one, = nodes(1).values()
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

def test_what_the_manual_prints_works(nodes, tmp_path):
    one, two = nodes(1, 2).values()
    with open(os.path.join(SOURCES, "doc", "python.md"), encoding="utf-8") as file:
        program, = re.findall(r"```python\n(.*?)```", file.read(), re.DOTALL)
    assert program.count('"5:inbox"') == program.count('"db:kv"') == 1
    receiver = two.receiver("inbox", "--count", "1")
    two.popen("serve", "kv", "--", "tr", "a-z", "A-Z")
    eventually(lambda: "kv" in two.endpoints(), "kv is bound")
    with open(tmp_path / "out", "wb") as out:
        one.popen_command(*python("-u", "-c", program.replace('"5:inbox"', '"2:inbox"').replace('"db:kv"', '"2:kv"')), stdout=out)
        assert receiver.output() == b"hello\n"
        eventually(lambda: "inbox" in one.endpoints(), "inbox is bound")
        two.send("1:inbox", "to the manual")
        eventually(lambda: (tmp_path / "out").read_text() == "GET COLOUR\n2 b'to the manual'\n", "it prints what came")


def test_the_types_are_sound(tmp_path):
    if not importlib.util.find_spec("mypy"):
        pytest.skip("no mypy")
    user = tmp_path / "user.py"
    user.write_text("""
import asyncio, xenmsg
async def main() -> bytes:
    async with xenmsg.open() as conn:
        await conn.send("5:inbox", b"")
        async for message in conn.bind("inbox"):
            print(message.sender_domid)
        async for reader, writer, peer in conn.listen("x"):
            print(await reader.read(), peer.domid)
        event: xenmsg.Event = await conn.watch("*").next()
        return bytes(await conn.call("5:turn", memoryview(b"")))
asyncio.run(main())
with xenmsg.blocking.open() as conn, conn.bind("inbox") as inbox:
    for message in inbox:
        conn.post("5:inbox", message.data)
""")
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(user),
                           os.path.join(DIRECTORY, "xenmsg"), *(os.path.join(SOURCES, "examples", name) for name in ("loop.py", "request-reply.py"))],
                          env=dict(os.environ, MYPYPATH=DIRECTORY), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pip_installs_it_from_the_source_tree(tmp_path):
    if not all(map(importlib.util.find_spec, ("pip", "setuptools", "wheel"))):
        pytest.skip("no pip, setuptools or wheel")
    # pip leaves its work in the tree
    shutil.copytree(os.path.join(SOURCES, "python"), tmp_path / "source")
    prefix = os.path.dirname(os.environ["XENMSG_BINDIR"])
    done = subprocess.run([sys.executable, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps",
                           "--disable-pip-version-check", "--target", str(tmp_path / "target"), str(tmp_path / "source")],
                          env=dict(os.environ, PKG_CONFIG_PATH=os.path.join(prefix, "lib", "pkgconfig")),
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run([sys.executable, "-c", "import xenmsg; print(xenmsg.__file__, xenmsg.Message)"], cwd=tmp_path,
                          env=dict(os.environ, PYTHONPATH=str(tmp_path / "target")), capture_output=True, text=True, check=False)
    assert done.stdout.startswith(str(tmp_path / "target")) and "xenmsg.Message" in done.stdout, done.stderr
    assert (tmp_path / "target" / "xenmsg" / "py.typed").exists()
