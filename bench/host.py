# SPDX-License-Identifier: LGPL-2.1-or-later
"""A simulated Xen host for the benchmark, and the processes on it.

There are two sides, the client's (0) and the server's (1), each with a CPU of its own. A domain with an odd number is on side 0,
its peer with the next number on side 1; processes outside any domain are on a side, too.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

POLICY = "[rule]\nfrom = *\nto = *\naction = allow\n"
TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
PATIENCE = 20  # seconds
# For a daemon with many links, channels and streams.
LIMITS = """[limits]
max-channels = 65536
max-queued-bytes = 16G
max-memory = 16G
"""


def end_in_order(*_):
    """For SIGTERM, so that nothing is left running."""
    sys.exit(1)


class Failed(Exception):
    """Something that is measured has failed; the message says what."""


def wait_until(condition, what, timeout=PATIENCE, pause=0.005):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"waited in vain: {what}")
        time.sleep(pause)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listens_at_port(port):
    with open("/proc/net/tcp", encoding="ascii") as table:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in list(table)[1:])


def listens_at_path(path):
    with open("/proc/net/unix", encoding="utf-8") as table:
        return any(fields[-1] == path and int(fields[3], 16) & 0x10000 for fields in map(str.split, table) if fields[3] != "Flags")


def cpu_seconds(pids):
    """What these processes and their children that have ended have used so far."""
    total = 0
    tick = 1000000000 // os.sysconf("SC_CLK_TCK")
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as file:
                    total += int(file.read().split()[0])
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                total += tick * sum(map(int, file.read().rpartition(")")[2].split()[13:15]))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / 1e9


def resident(pid):
    """What a process holds in memory, in bytes."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("Rss:"))


class Group:
    """Processes that are started for one thing and end with it."""

    def __init__(self, host):
        self.host, self.processes = host, []
        self.others = []  # that take part, but stay

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.host.end(self.processes)

    def start(self, side, *words, **options):
        process = self.host.start(side, *words, **options)
        self.processes.append(process)
        return process

    def serve(self, side, *words, **options):
        """Starts a server that says "ready"."""
        process = self.start(side, *words, stdout=subprocess.PIPE, **options)
        if process.stdout.readline().strip() != "ready":
            raise Failed(f"{' '.join(map(str, words))} has not started")
        return process

    def pids(self):
        return [process.pid for process in self.processes + self.others]


class Host:
    def __init__(self, build, domains=32):
        signal.signal(signal.SIGTERM, end_in_order)
        self.build = build
        self.cpus = sorted(os.sched_getaffinity(0))[:2]
        self.dir = tempfile.mkdtemp(prefix="xenmsg-bench-")
        self.environment = dict(os.environ, XENSIM_DIR=self.dir)
        self.environment.pop("XENMSG_SOCKET", None)
        self.background = []
        self.others = []  # simulated hosts that go with this one
        self.pairs = self.sequence = 0
        subprocess.run([self.tool("xensim"), "start", "--domains", str(domains), "--dir", self.dir], check=True,
                       env=self.environment, stdout=subprocess.DEVNULL)

    def stop(self):
        """Kills what runs in the domains: hundreds of daemons that ended in order would tell each other."""
        for other in self.others:
            other.stop()
        subprocess.run([self.tool("xensim"), "stop"], env=self.environment, check=False, stdout=subprocess.DEVNULL)
        self.end(self.background)
        shutil.rmtree(self.dir, ignore_errors=True)

    def another(self, domains):
        self.others.append(Host(self.build, domains))
        return self.others[-1]

    def tool(self, name):
        return os.path.join(self.build, name)

    def new_pair(self):
        """Two domains that nobody has used yet, so that no limit of grants is shared."""
        self.pairs += 1
        return 2 * self.pairs - 1, 2 * self.pairs

    def create(self, *options):
        """One domain more, by its number."""
        done = subprocess.run([self.tool("xensim"), "create", *options], env=self.environment, check=True, text=True,
                              stdout=subprocess.PIPE)
        return int(done.stdout)

    def new_name(self):
        """For a file in the host's directory."""
        self.sequence += 1
        return os.path.join(self.dir, f"s{self.sequence}")

    # ---- processes ----

    def command(self, side, *words, domid=None):
        exec_ = [self.tool("xensim"), "exec", str(domid), "--"] if domid is not None else []
        return exec_ + ["taskset", "-c", str(self.cpus[side % len(self.cpus)]), *map(str, words)]

    def start(self, side, *words, domid=None, environment=None, **options):
        """Starts a process, in a domain or outside. It keeps the number that it has here."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.command(side, *words, domid=domid), env=dict(self.environment, **(environment or {})), text=True,
                                **options)

    @staticmethod
    def end(processes):
        for process in reversed(processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(processes):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                if stream:
                    stream.close()
        processes.clear()

    def run(self, side, *words, domid=None, pids=(), environment=None, timeout=12):
        """Runs a client to its end, and returns what it has printed. The CPU time of `pids` is for it to count."""
        name = " ".join([os.path.basename(words[0]), *map(str, words[1:])])
        try:
            done = subprocess.run(self.command(side, *words, domid=domid), stdin=subprocess.DEVNULL, text=True, capture_output=True,
                                  env=dict(self.environment, BENCH_PIDS=" ".join(map(str, pids)), **(environment or {})),
                                  timeout=timeout, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failed(f"{name}: stands still") from error
        if done.returncode != 0:
            raise Failed(f"{name}: {done.stderr.strip() or 'status %d' % done.returncode}")
        return done.stdout

    # ---- daemons ----

    def start_daemon(self, domid, config, wait=True, side=None, wrapper=(), environment=None, policy=POLICY):
        """xenmsgd, until the host stops. `wrapper`: what runs it."""
        directory = os.path.join(self.dir, f"conf-{domid}")
        os.makedirs(os.path.join(directory, "policy.d"))
        with open(os.path.join(directory, "policy.d", "50-bench.conf"), "w", encoding="ascii") as file:
            file.write(policy)
        path = os.path.join(directory, "xenmsgd.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"[daemon]\npolicy-dir = {directory}/policy.d\n{config}")
        with open(os.path.join(self.dir, f"xenmsgd-{domid}.log"), "w", encoding="utf-8") as log:
            process = self.start((domid + 1) % 2 if side is None else side, *wrapper, self.tool("xenmsgd"), "--config", path,
                                 domid=domid, environment=environment, stdout=log, stderr=log)
        self.background.append(process)
        if wait:
            self.wait_for_daemon(domid)
        return process

    def wait_for_daemon(self, domid):
        wait_until(lambda: listens_at_path(os.path.join(self.dir, f"dom-{domid}", "xenmsg.sock")), f"xenmsgd in domain {domid}", 60)

    def status(self, domid):
        return json.loads(self.run(0, self.tool("xenmsg"), "status", "--all", "--json", domid=domid))

    def list(self):
        done = subprocess.run([self.tool("xensim"), "list", "--json"], env=self.environment, check=True, stdout=subprocess.PIPE)
        return {domain["domid"]: domain for domain in json.loads(done.stdout)["domains"]}
