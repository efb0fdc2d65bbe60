# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Python module under test, and what its tests share."""

import asyncio
import contextlib
import errno
import os
import sys
import time

import pytest

from messaging import PATIENCE, SOURCES

DIRECTORY = os.environ.get("XENMSG_PYTHONDIR", "")
if not os.path.exists(os.path.join(DIRECTORY, "xenmsg", "_core.so")):
    pytest.skip("built without the Python module", allow_module_level=True)
sys.path.insert(0, DIRECTORY)
import xenmsg  # noqa: E402  pylint: disable=wrong-import-position

LONG = 20 * PATIENCE
# Who is to be withdrawn must have waited for a while, whatever the machine does meanwhile.
SHORT = 0.1


def run(coroutine):
    async def main():
        return await asyncio.wait_for(coroutine, 3 * LONG)
    return asyncio.run(main(), debug=True)


def python(*arguments):
    """A Python of its own, with warnings."""
    return "env", f"PYTHONPATH={DIRECTORY}", sys.executable, "-X", "dev", *arguments


@contextlib.asynccontextmanager
async def served(node, conn, endpoint, handler, **options):
    """The task of conn.serve(), once the endpoint is bound; it is cancelled at the end."""
    serving = asyncio.create_task(conn.serve(endpoint, handler, **options))
    await soon(lambda: endpoint in node.endpoints(), f"{endpoint} is bound")
    yield serving
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def taken_in_time(conn, address, inbox):
    """A call that has been begun, whose time isn't up when it is taken there, and its message."""
    seconds = SHORT
    while True:
        begun = await conn.begin_call(address, b"x", timeout=seconds)
        try:
            return begun, await inbox.recv(seconds)
        except xenmsg.TimedOut:  # on a slow machine it comes too late
            await raises(errno.ETIMEDOUT, begun)
            seconds *= 4
            assert seconds < 100, "no time is long enough"


async def soon(condition, what):
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, what
        await asyncio.sleep(0.01)


async def raises(number, awaitable):
    with pytest.raises(xenmsg.Error) as caught:
        await awaitable
    assert caught.value.errno == number, caught.value
    return caught.value


async def answers(code, awaitable):
    """With an error of its own."""
    answered = await raises(errno.EREMOTEIO, awaitable)
    assert isinstance(answered, xenmsg.Answered) and answered.code == code, answered
    return answered
