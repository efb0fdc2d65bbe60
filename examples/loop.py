#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg in an asyncio loop: prints messages to ENDPOINT, and sends each line of standard input to ADDRESS.

    loop.py ENDPOINT ADDRESS

In the shell: `xenmsg recv ENDPOINT &` and `xenmsg send --lines ADDRESS`.
"""

import asyncio
import sys

import xenmsg


async def print_messages(inbox: xenmsg.Endpoint) -> None:
    async for message in inbox:
        print(f"from domain {message.sender_domid}: {str(message.data, 'utf-8', 'replace')}", flush=True)


async def send(conn: xenmsg.Connection, address: str, line: bytes) -> None:
    try:
        await conn.send(address, line)
    except xenmsg.Error as error:
        print(f"loop: {error}", file=sys.stderr)


async def main(endpoint: str, address: str) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    async with xenmsg.open() as conn, conn.bind(endpoint) as inbox:
        printing = asyncio.create_task(print_messages(inbox))
        sending = [asyncio.create_task(send(conn, address, line.rstrip(b"\n"))) async for line in lines]
        await asyncio.gather(*sending)
        printing.cancel()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} ENDPOINT ADDRESS")
    asyncio.run(main(*sys.argv[1:]))
