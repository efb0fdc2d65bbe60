# SPDX-License-Identifier: LGPL-2.1-or-later
"""The chain against raw libxenvchan on a real Xen host in QEMU, whose CPUs are emulated: only the ratios mean anything."""

import os
import statistics
import subprocess
import sys
import tempfile

from contenders import parse
from host import TOP


def lines_of_rig(build):
    with tempfile.TemporaryDirectory(prefix="xenmsg-bench-") as directory:
        done = subprocess.run([os.path.join(TOP, "tests/xen/run"), "--bench", "--build", build, "--keep", directory], check=False,
                              stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.stderr.write(done.stdout)
            sys.exit(done.returncode)
        with open(os.path.join(directory, "oxenstored", "bench"), encoding="ascii") as file:
            return [line.split(maxsplit=4) for line in file]


def value_of(mode, line):
    numbers = parse(line)
    return numbers["ns"] / numbers["messages"] / 1e9 if mode == "rtt" else numbers["messages"] / numbers["ns"] * 1e9


def measure_on_xen(build):
    """The rows of the table: a pair of domains is part of the workload's name."""
    results = {}
    for pair, who, mode, size, line in lines_of_rig(build):
        results.setdefault((pair, mode, int(size)), {}).setdefault(who, []).append(value_of(mode, line))
    rows = []
    for (pair, mode, size), measured in results.items():
        raw = statistics.median(measured["raw"])
        for who, values in measured.items():
            median = statistics.median(values)
            rows.append({"contender": {"chain": "xenmsg"}.get(who, who), "label": {"chain": "xenmsg", "raw": "raw libxenvchan"}[who],
                         "ring": "64K", "workload": f"{pair}: {'round trip, ' if mode == 'rtt' else ''}{size} B", "mode": mode,
                         "size": size, "unit": "s" if mode == "rtt" else "messages/s", "median": median, "low": min(values),
                         "high": max(values), "all": values, "ratio": {"median": median / raw}})
    return rows
