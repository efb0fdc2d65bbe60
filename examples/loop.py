#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg in an asyncio loop: prints messages to ENDPOINT, and sends each line of standard input to ADDRESS, until that ends.

    loop.py ENDPOINT ADDRESS

In the shell: `xenmsg recv ENDPOINT &` and `xenmsg send --lines ADDRESS`.
"""

import asyncio
import os
import sys
from typing import AsyncIterator

import xenmsg


async def read_lines(fd: int) -> AsyncIterator[bytes]:
    """Of a terminal or a pipe, or of a file, which can always be read."""
    loop, readable, begun = asyncio.get_running_loop(), asyncio.Event(), b""
    while True:
        try:
            loop.add_reader(fd, readable.set)
        except PermissionError:
            readable.set()
        try:
            await readable.wait()
        finally:
            loop.remove_reader(fd)
        readable.clear()
        piece = os.read(fd, 65536)
        *lines, begun = (begun + piece).split(b"\n")
        for line in lines:
            yield line
        if not piece:
            break
    if begun:
        yield begun


async def print_messages(inbox: xenmsg.Endpoint) -> None:
    async for message in inbox:
        host = f"{message.sender_host}/" if message.sender_host else ""
        print(f"from {host}domain {message.sender_domid}: {str(message.data, 'utf-8', 'replace')}", flush=True)


async def tell_errors(outcomes: "asyncio.Queue[xenmsg.Outcome[None]]") -> None:
    while True:
        try:
            await (await outcomes.get())
        except xenmsg.Error as error:
            print(f"loop: {error}", file=sys.stderr)
        outcomes.task_done()


async def send_lines(conn: xenmsg.Connection, address: str) -> None:
    """In their order; post() waits while too much is on its way."""
    outcomes: "asyncio.Queue[xenmsg.Outcome[None]]" = asyncio.Queue(1000)
    telling = asyncio.create_task(tell_errors(outcomes))
    async for line in read_lines(0):
        await outcomes.put(await conn.post(address, line))
    await outcomes.join()
    telling.cancel()


async def main(endpoint: str, address: str) -> None:
    async with xenmsg.open() as conn, conn.bind(endpoint, calls=False) as inbox:
        tasks = [asyncio.create_task(print_messages(inbox)), asyncio.create_task(send_lines(conn, address))]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for task in done:
            task.result()  # or its error


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} ENDPOINT ADDRESS")
    try:
        asyncio.run(main(*sys.argv[1:]))
    except xenmsg.Error as failure:
        sys.exit(f"loop: {failure}")
