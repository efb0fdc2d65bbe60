# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the kernel counts of processes that run: system calls, sleeps and page faults.

System calls are counted by the tracepoint raw_syscalls:sys_enter (perf_event_open), or where that isn't permitted by strace. So each
counts, whichever library makes it. Sleeps (voluntary switches) and faults are in /proc; under strace, which stops a process
at each call, they say nothing.
"""

import collections
import ctypes
import mmap
import os
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time

TRACEPOINT = "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id"
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
HEADERS = ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")
PATIENCE = 20  # seconds
PAGES = 64  # of samples for each thread: if they don't suffice, the number is right, and some calls have no name
SAMPLE, RAW = 9, 1 << 10  # PERF_RECORD_SAMPLE, PERF_SAMPLE_RAW

Counts = collections.namedtuple("Counts", ("calls", "switches", "faults"))


def tasks(pid):
    return [int(task) for task in os.listdir(f"/proc/{pid}/task")]


def switches(pid):
    total = 0
    for task in tasks(pid):
        with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8") as lines:
            total += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return total


def is_traced(task):
    with open(f"/proc/{task}/status", encoding="utf-8") as lines:
        return any(line.startswith("TracerPid:") and int(line.split()[1]) for line in lines)


def faults(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[7]) + int(fields[9])


def names_of_calls():
    header = HEADERS[0 if os.uname().machine == "x86_64" else 1]
    try:
        with open(header, encoding="utf-8") as file:
            return {int(number): name for name, number in re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", file.read(), re.M)}
    except FileNotFoundError:
        return {}


class Thread:
    """The system calls of one thread, by the tracepoint."""

    def __init__(self, tid, identity):
        attributes = struct.pack("=IIQQQQQII", 2, 112, identity, 1, RAW, 0, 0, 0, 0).ljust(112, b"\0")
        self.fd = ctypes.CDLL(None, use_errno=True).syscall(PERF_EVENT_OPEN[os.uname().machine], attributes, tid, -1, -1, 8)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "perf_event_open")
        self.samples = mmap.mmap(self.fd, (PAGES + 1) * mmap.PAGESIZE)
        self.tail = 0

    def close(self):
        self.samples.close()
        os.close(self.fd)

    def total(self):
        return struct.unpack("=Q", os.read(self.fd, 8))[0]

    def numbers(self):
        """Those of the calls since the last time that have left a sample."""
        head, = struct.unpack_from("=Q", self.samples, 1024)
        size = PAGES * mmap.PAGESIZE
        data = self.samples[mmap.PAGESIZE:]
        found = collections.Counter()
        while self.tail < head:
            record = bytes(data[(self.tail + at) % size] for at in range(28))
            kind, _, length = struct.unpack_from("=IHH", record)
            if kind == SAMPLE:
                found[struct.unpack_from("=q", record, 20)[0]] += 1
            self.tail += length
        struct.pack_into("=Q", self.samples, 1032, self.tail)
        return found


class ByTracepoint:
    def __init__(self, pids):
        with open(TRACEPOINT, encoding="ascii") as file:
            identity = int(file.read())
        self.names = names_of_calls()
        self.threads = []
        try:
            for who, pid in pids.items():
                self.threads.extend((who, Thread(task, identity)) for task in tasks(pid))
        except OSError:
            self.close()
            raise
        self.pids = pids
        self.before = {}

    def begin(self):
        for _, thread in self.threads:
            thread.numbers()
        self.before = {id(thread): thread.total() for _, thread in self.threads}

    def end(self):
        found = {who: collections.Counter() for who in self.pids}
        for who, thread in self.threads:
            numbers, total = thread.numbers(), thread.total() - self.before[id(thread)]
            for number, count in numbers.items():
                found[who][self.names.get(number, str(number))] += count
            found[who]["(others)"] += total - sum(numbers.values())
        return {who: +counts for who, counts in found.items()}

    def close(self):
        for _, thread in self.threads:
            thread.close()


class ByStrace:
    """Each line of strace's begins with the thread's number."""

    def __init__(self, pids):
        self.whose = {task: who for who, pid in pids.items() for task in tasks(pid)}
        self.directory = tempfile.TemporaryDirectory(prefix="xenmsg-strace-")
        self.path = os.path.join(self.directory.name, "calls")
        self.process = subprocess.Popen(["strace", "-f", "-qq", "-s", "0", "-e", "signal=none", "-o", self.path,
                                         *(word for pid in pids.values() for word in ("-p", str(pid)))], stderr=subprocess.DEVNULL)
        self.pids, self.at = pids, 0
        # Once it is attached to all, each call has a line.
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None and not all(map(is_traced, self.whose)) and time.monotonic() < end:
            time.sleep(0.01)
        if self.process.poll() is not None or time.monotonic() >= end:
            self.close()
            raise OSError("strace has ended, or one of the processes")

    def begin(self):
        self.at = os.path.getsize(self.path)

    def end(self):
        found = {who: collections.Counter() for who in self.pids}
        with open(self.path, encoding="utf-8", errors="replace") as file:
            file.seek(self.at)
            for line in file:
                call = re.match(r"(\d+) +(\w+)\(", line)
                if call:
                    found[self.whose.get(int(call[1]), next(iter(self.pids)))][call[2]] += 1
        return found

    def close(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        self.directory.cleanup()


class Kernel:
    """Counts between begin() and end(); `missing` has what it can't count."""

    def __init__(self, pids):
        self.pids, self.missing = pids, []
        self.others = ("switches", "faults")
        self.calls = None
        try:
            self.calls = ByTracepoint(pids)
        except (OSError, KeyError) as error:
            reason = str(error)
        if not self.calls and shutil.which("strace"):
            try:
                self.calls = ByStrace(pids)
                self.others = ()
                self.missing.append(f"switches and faults: system calls are counted by strace, since {reason}")
            except OSError as error:
                reason = f"{reason}; {error}"
        if not self.calls:
            self.missing.append(f"system calls: {reason}")
        self.before = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.calls:
            self.calls.close()

    def others_now(self):
        return {who: (switches(pid), faults(pid)) for who, pid in self.pids.items()}

    def begin(self):
        self.before = self.others_now()
        if self.calls:
            self.calls.begin()

    def end(self):
        calls = self.calls.end() if self.calls else None
        now = self.others_now()
        slept, faulted = ({who: numbers[at] - self.before[who][at] for who, numbers in now.items()} for at in (0, 1))
        return Counts(calls, slept, faulted)
