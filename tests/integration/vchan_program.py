# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program for libvchan, or libxenvchan: vchan_program.py LIBRARY runs each line that it reads, and answers what it is, or the errno.

Functions are called as in C, by `lib`; `read(ctrl, n)` returns what was read, `ready(fd, ms)` whether it is readable within that time."""

import ctypes
import os
import select
import sys
import time  # noqa: F401  pylint: disable=unused-import
import zlib  # noqa: F401  pylint: disable=unused-import

lib = ctypes.CDLL(sys.argv[1], use_errno=True)
POINTERS = "server_init", "client_init", "client_init_async"
for prefix in ("libvchan_", "libxenvchan_"):
    for name in POINTERS + ("write", "send", "read", "recv", "wait", "close", "fd_for_select", "is_open", "data_ready", "buffer_space"):
        function = getattr(lib, prefix + name, None)
        if function:
            setattr(sys.modules[__name__], name, function)
            function.restype = ctypes.c_void_p if name in POINTERS else ctypes.c_int
            function.argtypes = ([ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t] if name in ("write", "send", "read", "recv")
                                 else None if name in POINTERS else [ctypes.c_void_p])
FINISH = getattr(lib, "libvchan_client_init_async_finish", None)
if FINISH:
    FINISH.argtypes = [ctypes.c_void_p, ctypes.c_bool]


def got(ctrl, size, function="read"):
    buffer = ctypes.create_string_buffer(size)
    count = globals()[function](ctrl, buffer, size)
    return buffer.raw[:count] if count >= 0 else failed()


def ready(fd, milliseconds=0):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(milliseconds))


def child(line, leaves=False):
    """Runs a line in a child; `leaves`: the parent ends, and the child goes on in its place."""
    pid = os.fork()
    if leaves:
        if pid:
            os._exit(0)
        return None
    if pid == 0:
        exec(line, globals())
        os._exit(0)
    return pid


def pour(ctrl, data, times=1):
    """Writes what goes of these bytes, behind what was poured before. Returns how much that is by now."""
    for _ in range(times):
        pour.done += max(0, write(ctrl, data[pour.done:pour.done + 65536], len(data[pour.done:pour.done + 65536])))
    return pour.done


def gulp(ctrl):
    """Reads what is there. Returns how much was read by now."""
    while data_ready(ctrl):
        gulp.read += got(ctrl, 1 << 20)
    return len(gulp.read)


pour.done, gulp.read = 0, b""


class Failed(Exception):
    pass


def failed():
    raise Failed


def answer(line):
    try:
        return exec(line, globals()) if " = " in line else eval(line, globals())
    except Failed:
        return f"error {ctypes.get_errno()}"


for words in sys.stdin:
    print(answer(words.strip()), flush=True)
