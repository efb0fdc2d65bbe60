#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A service that reverses texts, and its client: the smallest request and reply, without asyncio.

    request-reply.py serve ENDPOINT        in domain 2, say:   request-reply.py serve turn
    request-reply.py call ADDRESS TEXT     in domain 1:        request-reply.py call 2:turn hello
"""

import sys

import xenmsg


def turn_around(request: xenmsg.Message) -> bytes:
    host = f"{request.sender_host}/" if request.sender_host else ""
    print(f"a call from {host}domain {request.sender_domid}", flush=True)
    try:
        text = str(request.data, "utf-8")
    except UnicodeDecodeError:
        raise xenmsg.Answered(1, b"that is no text") from None
    return text[::-1].encode()


def main(what: str, where: str, text: str = "") -> None:
    with xenmsg.blocking.open() as conn:
        if what == "serve":
            conn.serve(where, turn_around)
        else:
            print(str(conn.call(where, text.encode(), timeout=5).data, "utf-8", "replace"))


if __name__ == "__main__":
    if sys.argv[1:2] not in (["serve"], ["call"]) or len(sys.argv) != (3 if sys.argv[1] == "serve" else 4):
        sys.exit(f"usage: {sys.argv[0]} serve ENDPOINT | call ADDRESS TEXT")
    try:
        main(*sys.argv[1:])
    except xenmsg.Error as error:
        sys.exit(f"request-reply: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
