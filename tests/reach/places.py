# SPDX-License-Identifier: LGPL-2.1-or-later
"""A plugin of pytest: writes for each test which places of the programs it has reached (places.c), into the folder $REACH_OUT.

All programs that a worker's tests start share one map, which is cleared before each test; so a daemon that serves a whole file counts
for each of its tests.
"""

import array
import hashlib
import mmap
import os
import pathlib
import re
import time
import zlib

PLACES = 1 << 22  # as in places.c

worker = os.environ.get("PYTEST_XDIST_WORKER")  # the process that only hands out tests has none
began = {}
if worker:
    out = pathlib.Path(os.environ["REACH_OUT"])
    with open(out / f"map-{worker}", "w+b") as file:
        file.truncate(PLACES)
        area = mmap.mmap(file.fileno(), PLACES)
    os.chmod(out / f"map-{worker}", 0o666)  # daemons drop their privileges
    os.environ["REACH_MAP"] = str(out / f"map-{worker}")


def pytest_runtest_logstart(nodeid):
    if worker:
        began[nodeid] = time.monotonic()
        area[:] = bytes(PLACES)


def pytest_runtest_logfinish(nodeid):
    if worker:
        places = array.array("I", (match.start() for match in re.finditer(b"\x01", area[:])))
        head = f"{time.monotonic() - began[nodeid]:.2f} {nodeid}\n"
        name = hashlib.sha1(nodeid.encode()).hexdigest()
        (out / f"{name}.test").write_bytes(head.encode() + zlib.compress(places.tobytes()))
