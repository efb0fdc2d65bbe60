#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench-chain in Python, both ends: what the module costs.

    chain.py server blocking|asyncio                               binds `bench-KIND` and takes what comes
    chain.py client blocking|asyncio PEER stream SIZE SECONDS      prints "MESSAGES NANOSECONDS" of pipelined messages

A stream ends when the last message was reported delivered, that is, taken by the server.
"""

import asyncio
import sys
import time

import xenmsg


def serve(endpoint):
    with xenmsg.blocking.open() as conn, conn.bind(endpoint) as inbox:
        print("ready", flush=True)
        for message in inbox:
            message.data


async def serve_in_loop(endpoint):
    async with xenmsg.open() as conn, conn.bind(endpoint) as inbox:
        print("ready", flush=True)
        async for message in inbox:
            message.data


def send(address, data, seconds):
    with xenmsg.blocking.open() as conn:
        conn.send(address, data)
        count, begin = 0, time.monotonic_ns()
        end = begin + int(seconds * 1e9)
        while time.monotonic_ns() < end:
            for _ in range(64):
                conn.post(address, data)
            count += 64
        conn.flush()
        return count, time.monotonic_ns() - begin


async def send_in_loop(address, data, seconds):
    async with xenmsg.open() as conn:
        await conn.send(address, data)
        count, begin = 0, time.monotonic_ns()
        end = begin + int(seconds * 1e9)
        while time.monotonic_ns() < end:
            for _ in range(64):
                await conn.post(address, data)
            count += 64
        await conn.flush()
        return count, time.monotonic_ns() - begin


def main():
    role, kind, *rest = sys.argv[1:]
    in_loop = kind == "asyncio"
    try:
        if role == "server":
            asyncio.run(serve_in_loop(f"bench-{kind}")) if in_loop else serve(f"bench-{kind}")
        else:
            words = f"{rest[0]}:bench-{kind}", bytes(int(rest[2])), float(rest[3])
            print(*(asyncio.run(send_in_loop(*words)) if in_loop else send(*words)))
    except xenmsg.Error as error:
        if role != "server":  # for whom it is the end of the benchmark: the daemon was stopped
            sys.exit(f"chain.py: {error}")


if __name__ == "__main__":
    main()
