# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures for all integration tests: a simulated host, and programs that run in its domains.

Which programs these are: installed.py.
"""

import contextlib
import functools
import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import pytest

import modes
from installed import end_process, program
from polling import readable

# Generous, since tests run on loaded machines and under sanitizers and valgrind; a passing test never waits for it.
TIMEOUT = float(os.environ.get("XENMSG_TEST_TIMEOUT", "30"))
LONGEST = min(20 * TIMEOUT, 1200)  # of a whole test: one that hangs is told of before a whole run is over

# What nohup, or a shell's "&", has ignored would be ignored by all programs that are started here.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def wait_for(condition, what="the condition", timeout=TIMEOUT):
    """Returns the first true value of condition(), looked at again and again; fails after the time-out."""
    end = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            pytest.fail(f"{what} did not come true within {timeout} s")
        time.sleep(pause)
        pause = min(pause * 2, 0.1)


@contextlib.contextmanager
def row(what):
    """One of a table, which a failure names: cheaper than a test of its own with a host of its own."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{what}: {error}") from error


def stat_of(pid):
    """What /proc/PID/stat says behind the name, which may have blanks: its state first."""
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()


def status_of(pid, field):
    """A number of /proc/PID/status; pid may be PID/task/THREAD."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field + ":"))


def sleeps(pid):
    """How often a process, with all its threads, has gone to sleep."""
    return sum(status_of(f"{pid}/task/{thread}", "voluntary_ctxt_switches") for thread in os.listdir(f"/proc/{pid}/task"))


def children(pid):
    """The processes that a process's first thread has started, and not waited for."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def has_ended(pid):
    """Also if nobody has waited for it."""
    try:
        return stat_of(pid)[0] == "Z"
    except FileNotFoundError:
        return True


class Conversation:
    """A check program that answers each line that it's told with one line: "ok ..." or "error ..."."""

    def __init__(self, process):
        self.process = process
        self.buffer = b""
        os.set_blocking(process.stdout.fileno(), False)

    def tell(self, *words):
        self.process.stdin.write((" ".join(str(word) for word in words) + "\n").encode())
        self.process.stdin.flush()

    def answers_within(self, timeout):
        """Whether an answer has come (it stays there to be read)."""
        end = time.monotonic() + timeout
        while b"\n" not in self.buffer:
            if not readable([self.process.stdout], max(0, end - time.monotonic())):
                return False
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                raise EOFError(f"the program ended with {self.process.wait()}")
            self.buffer += data
        return True

    def answer(self, timeout=TIMEOUT):
        if not self.answers_within(timeout):
            pytest.fail("no answer from the program")
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.decode()

    def ask(self, *words, timeout=TIMEOUT):
        self.tell(*words)
        return self.answer(timeout)

    def ok(self, *words, timeout=TIMEOUT):
        """The numbers of an "ok" answer: one as itself, several as a list."""
        line = self.ask(*words, timeout=timeout)
        assert line.startswith("ok"), f"{' '.join(map(str, words))}: {line}"
        values = line.split()[1:]
        if all(value.lstrip("-").isdigit() for value in values):
            values = [int(value) for value in values]
        return values[0] if len(values) == 1 else values

    def error(self, *words, timeout=TIMEOUT):
        """The errno of an "error" answer."""
        line = self.ask(*words, timeout=timeout)
        assert line.startswith("error "), f"{' '.join(map(str, words))}: {line}"
        return int(line.split()[1])

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pid(self):
        return self.process.pid


# Where a host's many small files are made and removed in a tenth of the time; None: wherever temporary files are.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
LINK_PEER = pathlib.Path(__file__).with_name("link_peer.py")


def environment_of(directory):
    """Of who uses the host there."""
    return dict(os.environ, XENSIM_DIR=str(directory))


def xensim(*words, **options):
    """Runs `xensim WORDS`; returns the finished process, with text of stdout and stderr."""
    return subprocess.run([program("xensim"), *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, **options)


@functools.cache
def ends_what_is_left():
    """A pipe for the directories of hosts, which are stopped once it ends: so somebody may kill pytest."""
    script = 'while read -r dir; do dirs="$dirs $dir"; done; for dir in $dirs; do [ ! -e "$dir" ] || XENSIM_DIR=$dir "$0" stop; done'
    return subprocess.Popen(["sh", "-c", script, program("xensim")], stdin=subprocess.PIPE, text=True, bufsize=1, start_new_session=True).stdin


class Host:
    """A simulated Xen host with domain 0 and the guests 1 to `domains`."""

    # After an initialisation that failed, libxenvchan 4.17 closes what it has never set. Fresh memory is mostly zero, so that
    # this goes well; AddressSanitizer fills it and would make it a crash.
    FOR_STOCK = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":max_malloc_fill_size=0"}

    def __init__(self, domains=3, *options):
        # A short path: it ends up in the names of sockets, which have 107 characters.
        self.dir = tempfile.mkdtemp(prefix="xensim-", dir=IN_MEMORY)
        self.environment = environment_of(self.dir)
        self.environment.pop("XENMSG_SOCKET", None)
        self.processes = []
        self.stopped = set()  # domains that are paused or saved
        self.stalls = False  # XenStore, which answers no domain
        self.renewing = set()  # domains whose daemons a mode has hand over
        ends_what_is_left().write(self.dir + "\n")
        self.sim("start", "--domains", domains, *options, timeout=4 * TIMEOUT)
        modes.made(self)

    def sim(self, *words, check=True, timeout=TIMEOUT):
        with modes.stopping(self, *words):
            done = xensim(*words, env=self.environment, timeout=timeout)
        if check:
            assert done.returncode == 0, f"xensim {words}: {done.stderr}"
        return done

    def list(self):
        return json.loads(self.sim("list", "--json").stdout)

    def domain(self, domid, state=None):
        """What `xensim list` says about a domain, or None."""
        for domain in self.list()["domains"]:
            if domain["domid"] == domid and (state is None or domain["state"] == state):
                return domain
        return None

    def fault(self, kind, domid, *value):
        return self.sim("fault", kind, domid, *value)

    def spawn(self, domid, *command, env=None, **options):
        """Starts a command inside a domain; it's killed at the end of the test if it's still there."""
        process = subprocess.Popen([program("xensim"), "exec", str(domid), "--", *map(str, command)],
                                   env=dict(self.environment, **(env or {})), **options)
        self.processes.append(process)
        return process

    def sleeper(self, domid):
        """A program that does nothing, once it is inside."""
        process = self.spawn(domid, "sleep", "1000")
        wait_for(lambda: self.domain(domid)["processes"] == 1, "the program is in its domain")
        return process

    def run(self, domid, *command, timeout=TIMEOUT, env=None, **options):
        """Runs a command inside a domain to its end; returns it with the text of its output."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([program("xensim"), "exec", str(domid), "--", *map(str, command)],
                              env=dict(self.environment, **(env or {})), timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def converse(self, domid, name, *words, env=None):
        """Starts a check program in a domain and waits until it's ready. Its first answer is in `.first`."""
        process = self.spawn(domid, program(name), *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
        conversation = Conversation(process)
        conversation.first = conversation.answer()
        return conversation

    def xen(self, domid):
        """Xen's own libraries, a call a line, inside a domain (tests/conformance/check_xen.c)."""
        conversation = self.converse(domid, "check-xen")
        assert conversation.first == "ok 0", conversation.first
        return conversation

    def vchan_server(self, domid, peer, path="data/v", left=65536, right=65536):
        """A stock libxenvchan server inside a domain (tests/conformance/check_vchan.c)."""
        return self.converse(domid, "check-vchan", "server", peer, path, left, right, env=self.FOR_STOCK)

    def vchan_client(self, domid, peer, path=None):
        return self.converse(domid, "check-vchan", "client", peer, path or f"/local/domain/{peer}/data/v",
                             env=self.FOR_STOCK)

    def peer(self, domid, role, other, *words):
        """A daemon's session in Python (link_peer.py) with the daemon of another domain."""
        quiet = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}  # Python's own leaks are none of ours
        process = self.spawn(domid, sys.executable, LINK_PEER, role, other, *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=quiet)
        peer = Conversation(process)
        assert peer.answer() == "ok met"
        return peer

    def socket(self, domid):
        """Where the daemon of a domain listens by default."""
        return os.path.join(self.dir, f"dom-{domid}", "xenmsg.sock")

    def stop(self):
        for process in self.processes:
            end_process(process)
        if os.path.exists(self.dir):
            self.sim("stop")


def how_to_share(request):
    """Sets what the fixture `memory` says of it first, since a host takes its environment along."""
    if "memory" in request.fixturenames:
        request.getfixturevalue("memory")


@pytest.fixture
def host(request):
    """A host with domain 0 and three guests. Nothing of it is left after the test."""
    how_to_share(request)
    simulated = Host()
    yield simulated
    simulated.stop()
    assert not os.path.exists(simulated.dir), "xensim stop left its directory"


@pytest.fixture
def peer_in(host):
    """peer_in(domid, role, other, flags): a daemon's session in Python with the daemon of another domain."""
    return host.peer


@pytest.fixture
def make_host(request):
    """Makes hosts of any size."""
    how_to_share(request)
    hosts = []

    def make(domains=3, *options):
        hosts.append(Host(domains, *options))
        return hosts[-1]

    yield make
    for simulated in hosts:
        simulated.stop()


def pytest_addoption(parser):
    parser.addoption("--chaos-seed", type=int, default=None, help="replay the decisions of a chaos test")
    parser.addoption("--chaos-seconds", type=int, default=None, help="how long a chaos test lasts")
    modes.add_options(parser)


class FirstFailure:
    """Says at once what fails first, while pytest's own report comes at the end; scripts/check looks for this line."""

    def __init__(self, terminal):
        self.terminal = terminal
        self.told = False

    def pytest_runtest_logreport(self, report):
        if report.failed and not self.told:
            self.told = True
            crash = getattr(report.longrepr, "reprcrash", None)
            said = (crash.message if crash else str(report.longrepr)).splitlines()
            self.terminal.write_line(f"\nnot ok {report.nodeid}: {said[0] if said else report.when}")
            self.terminal.flush()

    pytest_collectreport = pytest_runtest_logreport


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test of the Python module may be a coroutine, which has a loop of its own."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        from python_module import run  # skips its user, if there is no module  # pylint: disable=import-outside-toplevel
        coroutine = pyfuncitem.obj
        pyfuncitem.obj = lambda **fixtures: run(coroutine(**fixtures))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """A test that waits for what never comes fails, and says where; else the whole run would stand still."""
    def give_up(*_):
        raise TimeoutError(f"{item.name} has taken {LONGEST:.0f} s, and hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(int(LONGEST))
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pytest_sessionstart(session):
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal:  # pytest-xdist's workers have none
        session.config.pluginmanager.register(FirstFailure(terminal))


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes a minute or more")
    config.addinivalue_line("markers", "more: of what differs in a seed or in parameters, what others run for at this change")
    modes.configure(config)


def pytest_terminal_summary(terminalreporter):
    modes.summary(terminalreporter)


@pytest.hookimpl(tryfirst=True)  # before they are chosen by their marks
def pytest_collection_modifyitems(config, items):
    modes.choose(config, items)


from messaging import (  # noqa: E402,F401  pylint: disable=wrong-import-position,unused-import
    alone, domain_0, domain_1, domain_2, domain_3, here, hosts_of_any_size, no_kernel_bug, nodes_of_the_host, one_domain_or_two, pv_guests, there,
    with_and_without_shared_memory)
from joined_hosts import joined_hosts  # noqa: E402,F401  pylint: disable=wrong-import-position,unused-import
from renewing import daemon_of_a_folder_of_its_own  # noqa: E402,F401  pylint: disable=wrong-import-position,unused-import
from users import users  # noqa: E402,F401  pylint: disable=wrong-import-position,unused-import
