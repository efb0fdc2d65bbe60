# SPDX-License-Identifier: LGPL-2.1-or-later
"""Domains with daemons in them, as the tests see them.

A `Node` is one domain of a simulated host with its xenmsgd. Commands and programs are started in the domain through
`xensim exec`; Python clients connect to the daemon's socket directly, since a Unix socket doesn't care.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import time

import pytest

import modes
from frames import DATA, INITIAL_LIMIT, credit_frame, message, receive_exactly
from installed import (  # noqa: F401  pylint: disable=unused-import
    BINDIR, BUILDDIR, SBINDIR, end_process, is_built_with_systemd, is_sanitized, program as tool)
from protocol import PATIENCE, Program

SOURCES = os.environ.get("XENMSG_SRCDIR", os.path.join(os.path.dirname(__file__), "..", ".."))

EXIT_OK, EXIT_ERROR, EXIT_USAGE, EXIT_NO_ENDPOINT, EXIT_DENIED, EXIT_UNREACHABLE = range(6)
EXIT_LOST, EXIT_NO_DAEMON = 8, 9
EXIT_TIMEOUT, EXIT_LIMIT, EXIT_UNKNOWN, EXIT_NO_DAEMON, EXIT_ANSWERED = range(6, 11)

# Between domains nothing is allowed that no rule allows; most tests are about something else.
ALLOW_ALL = "[rule]\nfrom = *\nto = *\naction = allow\n"

# What a guest watches while domain 0 tells it what changes: its domid, its name, what domain 0 writes, and its own nodes.
TOLD_WATCHES = 4

# A link hears of its peer often, but neither its set-up nor itself ends because the machine stands still for a while.
FAST = "[links]\nheartbeat = 200ms\ndead-after = 20s\nsetup-timeout = 20s\n"


def lost_after(silence):
    """The same for tests that wait until a link is lost with who stands still."""
    return FAST.replace("dead-after = 20s", f"dead-after = {silence}")


LOST_SOON = lost_after("1s")
# Where a link can't come about, this is over sooner.
GIVES_UP = LOST_SOON.replace("20s", "1s")


needs_systemd = pytest.mark.skipif(not is_built_with_systemd(), reason="built without systemd")


def advised(verb, name):
    """How people are told to start, stop, restart or look into the log of a service: wire/advice.h."""
    if is_built_with_systemd():
        return f"journalctl -u {name}" if verb == "log" else f"systemctl {verb} {name}"
    return f"the log of the service {name}" if verb == "log" else f"{verb} the service {name}"


def read_source(*path):
    with open(os.path.join(SOURCES, *path), encoding="utf-8") as file:
        return file.read()


def eventually(condition, what, timeout=20):
    """Waits until condition() is true and returns its value."""
    end = time.monotonic() + timeout * PATIENCE
    pause = 0.005
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def feed(process, data):
    """Writes to a program that reads more later."""
    process.stdin.write(data)
    process.stdin.flush()


def given_time(attempt, seconds=0.5):
    """What attempt(seconds) returns, with four times as many of them until it is true: on a slow machine what has to happen before a
    time-out takes longer."""
    while not (result := attempt(seconds)):
        assert seconds < 30, "no time is long enough"
        seconds *= 4
    return result


def of_turns(name, header="turns.h"):
    """A number of a header in base."""
    path = os.path.join(SOURCES, "base", header)
    with open(path, encoding="utf-8") as file:
        return int(re.search(rf"#define {name}\s+(\d+)u", file.read())[1])


def is_listening(path):
    """Whether somebody listens at a Unix socket, without connecting to it: bind() makes the file, listen() comes later."""
    with open("/proc/net/unix", encoding="utf-8") as table:
        return any(fields[-1] == path and int(fields[3], 16) & 0x10000 for fields in map(str.split, table))


def peer_pid(path):
    """The process that listens at a Unix socket, or None."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
            return struct.unpack("iII", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        except OSError:
            return None


def all_threads_are(pid, wanted):
    """Whether all threads of a process are in this state of proc(5)."""
    def state(thread):
        try:
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return "ended"
    return all(state(thread) == wanted for thread in os.listdir(f"/proc/{pid}/task"))


def stands_still(pid):
    return all_threads_are(pid, "T")


def sleeps(pid):
    return all_threads_are(pid, "S")


@contextlib.contextmanager
def stopped(pid):
    """A process that stands still meanwhile. kill() returns before it does: on a busy machine its other threads ran on for up
    to 60 ms. At the end it must still stand still, or what was seen says nothing."""
    modes.hold(pid)
    try:
        eventually(lambda: stands_still(pid), f"process {pid} stands still")
        yield
        assert stands_still(pid), f"somebody has let process {pid} go on"
    finally:
        modes.let_go(pid)


class Receiver:
    """`xenmsg recv` in the background."""

    def __init__(self, node, endpoint, *options, stdout=subprocess.PIPE):
        self.node, self.endpoint = node, endpoint
        self.process = node.popen("recv", *options, endpoint, stdout=stdout, binds=endpoint)

    def output(self, timeout=30):
        """What it printed, once it has ended by itself (--count)."""
        out, err = self.process.communicate(timeout=timeout * PATIENCE)
        assert self.process.returncode == 0, err
        return out

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.communicate(timeout=10 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.communicate()


def resident(pid):
    """What a process has in memory, in bytes."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def threads_of(pid):
    """Where each thread of a process is, in the kernel's words, for a report about one that doesn't go on."""
    where = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            where.append(f"{task.name}: {state}, {(task / 'wchan').read_text()}, system call {(task / 'syscall').read_text().strip()}")
    return "; ".join(where)


def traced(*options):
    """What runs a command under strace. LeakSanitizer can't look into a process that is traced."""
    return "env", f"ASAN_OPTIONS={os.environ.get('ASAN_OPTIONS', '')}:detect_leaks=0", "strace", "-o", os.devnull, *options


def without_asker(status):
    """Without what the channel takes on which this was asked."""
    held = [*([status["pools"]] if status.get("pools") else []),
            *(each for each in status["accounts"] if (each["kind"], each["id"]) == ("uid", os.getuid()))]
    for each in held:
        if each["channels"]["used"]:  # else the daemon handed over just then
            each["channels"]["used"] -= 1
            each["queued_bytes"]["used"] -= 2 * INITIAL_LIMIT
    return status


class Node:
    def __init__(self, host, domid, tmp_path, config=FAST, policy=ALLOW_ALL):
        self.host, self.domid = host, domid
        self.directory = tmp_path
        self.config = config
        self.policy = policy
        self.daemon = None
        self.pid = None
        self.starts = 0
        self.logs = []
        self.programs = None  # a folder with another xenmsgd and xenmsg, if not those under test
        self.within = ()  # what starts the daemon, such as a container
        self.handed = ()  # descriptors that are for this
        self.files = None  # how many the daemon may have open, soft and hard limit, if not as many as we
        self.children = []
        self.renewal = None  # `xenmsg daemon renew` under way
        self.nodes = None  # of which it is one
        self.only_relays = self.asks_host = False  # domain 0, which no test has asked for; a guest that only the host's policy lets in
        self.reads = True  # its daemon, what it is asked
        self.environment = host.environment
        self.socket = host.socket(domid)

    # ---- commands in the domain ----

    def command(self, *arguments):
        return [tool("xensim"), "exec", str(self.domid), "--", *map(str, arguments)]

    def run_command(self, *arguments, data=b"", timeout=60):
        return subprocess.run(self.command(*arguments), input=data, capture_output=True, env=self.environment,
                              timeout=timeout * PATIENCE, check=False)

    def popen_command(self, *arguments, data=None, binds=(), **options):
        """A program in the background, with these `data` as its whole input; returned once it has bound what it `binds`, one
        endpoint or several."""
        if data is not None:
            options["stdin"] = subprocess.PIPE
        process = subprocess.Popen(self.command(*arguments), env=self.environment, **options)
        self.children.append(process)
        if data is not None:
            process.stdin.write(data)
            process.stdin.close()
            process.stdin = None
        endpoints = {binds} if isinstance(binds, str) else set(binds)

        def are_bound():
            assert process.poll() is None, f"{arguments} has ended: {process.stderr and process.stderr.read()}"
            return endpoints <= set(self.endpoints())
        if endpoints:
            eventually(are_bound, f"{endpoints} of domain {self.domid} are bound")
        return process

    def tool(self, name):
        return os.path.join(self.programs, name) if self.programs else tool(name)

    def xenmsg(self, *arguments, data=b"", timeout=60):
        return self.run_command(self.tool("xenmsg"), *arguments, data=data, timeout=timeout)

    def popen(self, command, *arguments, lasting=False, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, **more):
        """What goes on until it is stopped ends with its daemon all the same, unless `lasting`."""
        once = ["--once"] if command in ("recv", "serve", "listen", "watch", "forward") and not lasting and not self.programs else []
        return self.popen_command(self.tool("xenmsg"), command, *once, *arguments, stdin=stdin, stdout=stdout, stderr=stderr, **more)

    def json(self, *arguments):
        """What a command prints with --json: an object a line."""
        done = self.xenmsg(*arguments, "--json")
        assert done.returncode == EXIT_OK, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def told(self, *arguments):
        """The same, without what is unknown."""
        def known(value):
            return {name: known(member) for name, member in value.items() if member is not None} if isinstance(value, dict) else value
        return [known(entry) for entry in self.json(*arguments)]

    def send(self, address, message=None, *options, exit_code=EXIT_OK, data=b""):
        """Sends and holds the command to its exit code; an error is one line that names the address."""
        arguments = ["send", *options, address] + ([message] if message is not None else [])
        done = self.xenmsg(*arguments, data=data)
        assert done.returncode == exit_code, (done.returncode, done.stderr)
        assert done.stdout == b""
        if exit_code not in (EXIT_OK, EXIT_USAGE):
            lines = done.stderr.decode().splitlines()
            assert len(lines) == 1, lines
            assert address in lines[0], lines
        return done.stderr.decode()

    def receiver(self, endpoint, *options, **more):
        return Receiver(self, endpoint, *options, **more)

    # ---- the daemon ----

    def write_policy(self, text, name="50-test.conf", folder="policy.d"):
        """A simulated domain has an /etc/xenmsg of its own."""
        if self.asks_host and folder == "policy.d":  # what a test sets itself is all
            modes.ask_host_no_more(self)
        directory = os.path.join(self.environment["XENSIM_DIR"], f"dom-{self.domid}", "root/etc/xenmsg", folder)
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)

    def write_config(self, text):
        """What the daemon reads when it starts."""
        self.config_path.write_text(text)

    def set_policy(self, text, name="50-test.conf"):
        """The same, and these rules are in force then."""
        self.write_policy(text, name)
        assert self.xenmsg("policy", "reload").returncode == EXIT_OK

    def start(self, wait=True):
        policy = modes.rules(self)
        if policy is not None:
            self.write_policy(policy)
        self.starts += 1
        path = self.config_path = self.directory / f"xenmsgd-{self.domid}.conf"
        self.write_config(modes.settings(self.config))
        self.log = self.directory / f"xenmsgd-{self.domid}-{self.starts}.log"
        self.logs.append(self.log)
        with open(self.log, "ab") as log:
            limited = ()
            if self.files:
                limited = ("sh", "-c", 'ulimit -S -n %d && ulimit -H -n %d && exec "$@"' % self.files, "sh")
            self.daemon = self.popen_command(*limited, *self.within, self.tool("xenmsgd"), "--config", path, stdin=subprocess.DEVNULL,
                                             stdout=log, stderr=log, pass_fds=self.handed)
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self):
        def ready():
            assert self.daemon.poll() is None, f"xenmsgd has ended: {self.log.read_text()}"
            listens = peer_pid(self.socket)
            # A daemon that has been killed seems to listen while somebody else has its descriptors, as who was to be the next one.
            self.pid = listens if listens and os.path.exists(f"/proc/{listens}") else None
            return self.pid
        eventually(ready, f"xenmsgd of domain {self.domid} listens")
        if self.asks_host:
            eventually(lambda: self.status()["policy"]["of_host"]["rules"], f"domain {self.domid} was told the host's policy")

    def stop(self):
        """In order; what it leaves behind is for the caller to look at."""
        if self.daemon and self.daemon.poll() is None:
            if not self.pid:
                self.wait_ready()
            assert str(self.domid) not in self.host.stopped, f"domain {self.domid} is paused or saved, and its daemon can't stop"
            os.kill(self.pid, signal.SIGTERM)
            try:
                status = self.daemon.wait(timeout=20 * PATIENCE)
            except subprocess.TimeoutExpired:
                where = f"{threads_of(self.pid)}\nthe simulated host: {threads_of(peer_pid(f'{self.host.dir}/xensim.sock'))}"
                self.kill()
                raise AssertionError(f"xenmsgd of domain {self.domid} didn't stop: {where}\n{self.log.read_text()}") from None
            assert status == 0, (status, self.log.read_text())
        self.daemon = self.pid = None

    def kill(self):
        if self.daemon and self.daemon.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.daemon.wait(timeout=20 * PATIENCE)
        self.daemon = self.pid = None

    def alive(self):
        return self.daemon is not None and self.daemon.poll() is None

    def end_children(self):
        for child in self.children:
            if child is not self.daemon:
                end_process(child)

    def end(self):
        """Whatever state it is in."""
        self.end_children()
        if self.alive():
            if self.pid:
                os.kill(self.pid, signal.SIGCONT)
                os.kill(self.pid, signal.SIGTERM)
            else:
                self.daemon.terminate()
            try:
                self.daemon.wait(timeout=10 * PATIENCE)
            except subprocess.TimeoutExpired:
                if self.pid:
                    os.kill(self.pid, signal.SIGKILL)
                self.daemon.kill()
                self.daemon.wait()

    def status(self):
        with Program(self.socket) as program:
            return without_asker(json.loads(program.query("status all")))

    def endpoints(self):
        return [endpoint["name"] for endpoint in self.status()["endpoints"]]

    def link(self, domid):
        """What the status says of the link to a domain, or None."""
        for link in self.status()["links"]:
            if link["peer"]["domid"] == domid:
                return link
        return None

    def link_state(self, domid):
        """The state of the link to a domain, or None: there is none."""
        return (self.link(domid) or {}).get("state")

    def account(self, kind, number):
        """What the status says of an account ("uid" or "peer"), or None."""
        for account in self.status()["accounts"]:
            if (account["kind"], account["id"]) == (kind, number):
                return account
        return None

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def sees(self, *others):
        """Waits until it has seen that the daemons of the others are there, as it must with no help."""
        for other in others:
            if other.domid != self.domid:
                eventually(lambda other=other: (other.domid, other.instance()) in self.peers_by_number(),
                           f"domain {self.domid} sees the daemon of domain {other.domid}")

    def instance(self):
        return self.status()["instance"]

    def status_with_all_peers(self):
        """A daemon knows only those that it has to do with, until somebody asks it for all."""
        with Program(self.socket) as program:
            program.query("peers")
            return without_asker(json.loads(program.query("status all")))

    def peers(self):
        return [peer["instance"] for peer in self.status_with_all_peers()["peers"] if peer["up"]]

    def peers_by_number(self):
        """One that was restored is shown by its old number until it is known that this one has gone."""
        return [(peer["domid"], peer["instance"]) for peer in self.status_with_all_peers()["peers"] if peer["up"]]

    # ---- the domain ----

    def suspend(self, *options):
        self.host.sim("suspend", self.domid, *options)

    def resume(self, *options):
        """Its number is another one then."""
        self.domid = int(self.host.sim("resume", self.domid, *options).stdout)

    def save_and_restore(self):
        self.suspend()
        self.resume()
        self.knows_its_number()

    def knows_its_number(self):
        eventually(lambda: self.status()["domid"] == self.domid, "the daemon knows its new number")

    def store(self):
        return Store(self.run_command("printenv", "XENSTORED_PATH").stdout.decode().strip())


def open_to_others(node):
    """Lets other users come to the socket, as in /run."""
    path = os.path.dirname(node.socket)
    while len(path) >= len(node.host.dir):
        os.chmod(path, 0o755)
        path = os.path.dirname(path)


def deliver(sender, receiver, endpoint="inbox", data=b"hello"):
    """A message goes from one node to the other."""
    stream = message(data)
    sender.sees(receiver)
    with Program(sender.socket) as program, Program(receiver.socket) as other:
        other.bind(endpoint)
        program.open(f"{receiver.domid}:{endpoint}")
        program.data(0, stream)
        got = other.expect(DATA)
        assert got.payload == stream
        other.send_bytes(credit_frame(got.channel, len(stream)))
        program.consumed(0, len(stream))


def works(one, other):
    """Messages go between two nodes, each way."""
    deliver(one, other)
    deliver(other, one)


class Holder(Program):
    """Binds endpoints and takes nothing until it is asked to."""

    def __init__(self, node, *endpoints, shared=False):
        super().__init__(node.socket, shared)
        self.node = node
        self.taken = {}
        for endpoint in endpoints:
            self.bind(endpoint)

    def take(self, timeout=None):
        """The payload of the next DATA, which counts as taken."""
        got = self.expect(DATA, timeout=timeout)
        self.taken[got.channel] = self.taken.get(got.channel, 0) + len(got.payload)
        self.send_bytes(credit_frame(got.channel, self.taken[got.channel]))
        return got.payload


class Nodes:
    """nodes(1, 2): the nodes of these domains by domid, started unless start=False; stopped in order after the test."""

    def __init__(self, host, tmp_path):
        self.host, self.tmp_path = host, tmp_path
        self.by_domid = {}
        self.disturber = modes.Disturber(host)
        self.relay = None  # domain 0, which a mode needs, and no test has asked for

    def __call__(self, *domids, start=True, config=FAST, policy=ALLOW_ALL):
        if self.relay and 0 in domids:
            self.relay.stop()
            self.relay = None
        elif modes.need_domain_0() and 0 not in (*domids, *self.by_domid):
            self.relay = self.add(0, FAST, ALLOW_ALL)
            self.relay.only_relays = True
            self.relay.start()
        for domid in domids:
            self.add(domid, config, policy)
        if start:
            start_all(*(self.by_domid[domid] for domid in domids))
            for node in list(self.by_domid.values()):
                if node.alive():
                    node.sees(*(other for other in self.by_domid.values() if other.alive()))
        return {domid: self.by_domid[domid] for domid in domids}

    def add(self, domid, config, policy):
        node = self.by_domid[domid] = Node(self.host, domid, self.tmp_path, config, policy)
        node.nodes = self
        self.disturber.follow(node)
        return node

    def finish(self):
        """Stops all daemons in order; they must have lived to see it, and take everything with them."""
        self.disturber.stop()
        died = [node for node in self.by_domid.values() if node.daemon and not node.alive()]
        for node in self.by_domid.values():
            node.end_children()
        try:
            assert not died, "\n".join(f"domain {node.domid} ended with {node.daemon.returncode}: {node.log.read_text()}" for node in died)
            for node in self.by_domid.values():
                node.stop()
            for domain in self.host.list()["domains"] if self.by_domid else ():
                if domain["domid"] in self.by_domid:
                    assert domain["grants"]["used_pages"] == 0, domain
                    assert domain["mapped_pages"] == 0, domain
                    # A keeper has the handle of before a restore, and what was bound in it before the daemon knew of that:
                    # two for a link that was moving.
                    assert domain["event_channels"]["used"] <= 2 * domain["processes"] * len(self.by_domid), domain
        finally:
            for node in self.by_domid.values():
                node.end()

    def logs(self):
        for node in self.by_domid.values():
            for path in node.logs:  # by the numbers that its domain had
                print(f"---- {path.name}\n{path.read_text(errors='replace')}")


@pytest.fixture(name="nodes")
def nodes_of_the_host(host, tmp_path):
    all_nodes = Nodes(host, tmp_path)
    yield all_nodes
    try:
        all_nodes.finish()
    finally:
        all_nodes.logs()  # pytest shows them if the test has failed


def domain(name, domid):
    """The fixture of this name: a domain with its daemon, which those that were started before it have seen."""
    return pytest.fixture(lambda nodes: nodes(domid)[domid], name=name)


domain_0, domain_1, domain_2, domain_3 = map(domain, ("zero", "one", "two", "three"), range(4))


@pytest.fixture
def alone(nodes):
    """Domain 1, whose daemon isn't started."""
    return nodes(1, start=False)[1]


def start_all(*some):
    for node in some:
        node.start(wait=False)
    for node in some:
        node.wait_ready()


class Guests:
    """guests(3): the nodes of three new PV guests, whose daemons run if start=True."""

    def __init__(self, host, nodes):
        self.host, self.nodes, self.names = host, nodes, {}

    def domid(self):
        """A new PV guest, which can't map by itself."""
        name = f"pv-{len(self.names)}"
        domid = int(self.host.sim("create", "--name", name, "--type", "pv").stdout)
        self.names[domid] = name
        return domid

    def __call__(self, count, start=True, config=FAST, policy=None):
        some = list(self.nodes(*(self.domid() for _ in range(count)), start=False, config=config).values())
        for node in some:
            node.policy = policy or node.policy
        if start:
            start_all(*some)
        return some


@pytest.fixture(name="guests")
def pv_guests(host, nodes):
    return Guests(host, nodes)


@pytest.fixture(name="many")
def hosts_of_any_size(make_host, tmp_path):
    """many(100): the nodes of a host with so many guests, none of which has been started yet."""
    made = []

    def make(guests):
        made.append(Nodes(make_host(guests), tmp_path))
        made[-1](*range(guests + 1), start=False)
        return made[-1]
    yield make
    for nodes in made:
        nodes.finish()


@pytest.fixture
def no_kernel_bug(host):
    """For the whole test: no domain's kernel has complained."""
    yield
    assert host.list()["kernel_log"] == []


@pytest.fixture(params=[1, 2], ids=["within", "between"], name="pair")
def one_domain_or_two(request, nodes):
    """Two domains, or one that is both."""
    both = nodes(*range(1, request.param + 1))
    return both[1], both[request.param]


@pytest.fixture
def here(pair):
    return pair[0]


@pytest.fixture
def there(pair):
    return pair[1]


@pytest.fixture(params=["0", "1"], ids=["shared", "socket"], name="memory")
def with_and_without_shared_memory(request, monkeypatch):
    monkeypatch.setenv("XENMSG_NO_SHARED_MEMORY", request.param)
    return request.param


class StoreError(Exception):
    pass


class Store:
    """XenStore's wire protocol (xen/io/xs_wire.h), so far as hostile tests need it."""

    DIRECTORY, READ, WRITE, RM, SET_PERMS, ERROR = 1, 2, 11, 13, 14, 16

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.socket.settimeout(20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def request(self, kind, payload):
        self.socket.sendall(struct.pack("<IIII", kind, 1, 0, len(payload)) + payload)
        got, _, _, size = struct.unpack("<IIII", receive_exactly(self.socket, 16))
        body = receive_exactly(self.socket, size)
        if got == self.ERROR:
            raise StoreError(body.rstrip(b"\0").decode())
        return body

    def read(self, path):
        return self.request(self.READ, path.encode() + b"\0")

    def list(self, path):
        return [name.decode() for name in self.request(self.DIRECTORY, path.encode() + b"\0").split(b"\0") if name]

    def write(self, path, value, *perms):
        """perms as XenStore writes them: "n3", "r5"."""
        self.request(self.WRITE, path.encode() + b"\0" + (value if isinstance(value, bytes) else value.encode()))
        if perms:
            self.request(self.SET_PERMS, path.encode() + b"\0" + b"".join(perm.encode() + b"\0" for perm in perms))

    def remove(self, path):
        self.request(self.RM, path.encode() + b"\0")

    def take_away_hello(self, node, domid):
        """Returns false. The daemon writes it again, perhaps before the other one has looked."""
        with contextlib.suppress(StoreError):  # it is gone already
            self.remove(f"/local/domain/{node.domid}/data/xenmsg/to/{domid}/hello")
        return False


def give_up_ring(store, whose, one, two, times):
    """Takes away hellos until that has led to a resume."""
    pair = (one, two)

    def is_resumed():
        links = [node.link(other.domid) for node, other in (pair, pair[::-1])]
        if not all(link and link["state"] == "up" for link in links):
            return False
        return all(link["resumes"] >= times for link in links) or any(
            store.take_away_hello(node, pair[1 - pair.index(node)].domid) for node in whose)

    eventually(is_resumed, "the link is resumed")
