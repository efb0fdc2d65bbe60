# SPDX-License-Identifier: LGPL-2.1-or-later
"""The daemon under a service manager: ready when it can serve, alive as long as its loop turns, its socket handed over."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess

import pytest

from messaging import EXIT_USAGE, PATIENCE, SOURCES, eventually, is_listening, needs_systemd, peer_pid, stopped, tool
from polling import readable
from renewing import Installer
from service_manager import Manager, listener

PREFIX = os.path.dirname(os.environ.get("XENMSG_BINDIR", "/usr/bin"))
QUEUE_MAX = 32  # connections that wait to be accepted
UNITS = os.path.join(PREFIX, "lib/systemd/system")
needs_activate = pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not there")
needs_analyze = pytest.mark.skipif(not shutil.which("systemd-analyze") or not os.path.exists(UNITS), reason="no systemd-analyze")


@pytest.fixture(name="manager")
def notify_socket(tmp_path):
    manager = Manager(tmp_path / "notify")
    yield manager
    manager.close()


@pytest.fixture(name="one")
def node_that_is_not_started(nodes):
    return nodes(1, start=False)[1]


@pytest.fixture(name="domain_0")
def node_of_domain_0(nodes):
    return nodes(0, start=False)[0]


def start(node, manager, **environment):
    node.environment = dict(node.environment, NOTIFY_SOCKET=manager.path, **environment)
    node.start(wait=False)


def started(node, manager, **environment):
    start(node, manager, **environment)
    manager.wait_for("READY=1")
    node.wait_ready()


@pytest.mark.unless(relayed="zero", strict="zero")
def test_ready_is_said_once_it_listens_and_xenstore_has_answered(host, one, manager):
    host.fault("stall-store", 1, "on")
    start(one, manager)
    assert not manager.read(1), manager.lines
    assert peer_pid(one.socket) is None
    host.fault("stall-store", 1, "off")
    assert manager.wait_for("STATUS=.*") == "STATUS=Serving domain 1: programs: 0, endpoints: 0, links: 0"
    manager.wait_for("READY=1")
    assert peer_pid(one.socket)
    one.wait_ready()
    one.stop()
    manager.wait_for("STOPPING=1")


def fill(path):
    """As anybody may who can reach the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other, pytest.raises(BlockingIOError):
        other.setblocking(False)
        while True:
            other.sendto(b"X_FULL=1", path)


def test_a_manager_that_reads_nothing_is_not_waited_for(one, manager):
    fill(manager.path)
    start(one, manager)
    one.wait_ready()
    os.kill(one.pid, signal.SIGHUP)
    assert one.xenmsg("status").returncode == 0
    for told in ("READY=1", "RELOADING=1", "READY=1"):
        manager.wait_for(told)
    fill(manager.path)
    one.stop()


@pytest.mark.unless(relayed="zero", strict="zero")
def test_a_reload_is_told(one, manager):
    started(one, manager)
    for policy in ("", "[rule]\nnonsense = 1\n"):  # also a bad one is over at some time
        one.write_policy(policy)
        os.kill(one.pid, signal.SIGHUP)
        manager.wait_for("RELOADING=1")
        manager.wait_for("MONOTONIC_USEC=[0-9]+")
        if policy:
            manager.wait_for(r"STATUS=.*; older rules are in force: \S+/50-test.conf:2: \[rule\] has no key 'nonsense'.*")
        manager.wait_for("READY=1")
    one.write_policy("")
    assert one.xenmsg("policy", "reload").returncode == 0
    manager.wait_for("RELOADING=1")
    manager.wait_for("STATUS=Serving domain 1: programs: [0-9]+, endpoints: 0, links: 0")
    manager.wait_for("READY=1")


def test_a_hand_over_is_a_reload_to_the_manager(one, manager):
    """The process and its socket stay, and the manager isn't told of an end."""
    started(one, manager)
    pid = one.pid
    for _ in range(2):
        assert one.xenmsg("daemon", "renew").returncode == 0
        manager.wait_for("RELOADING=1")
        manager.wait_for("READY=1")
        assert "STOPPING=1" not in manager.lines
        assert one.xenmsg("status").returncode == 0 and peer_pid(one.socket) == pid


@pytest.mark.parametrize("fault, end", [(("stall-store", 1, "on"), ("stall-store", 1, "off")),
                                        (("refuse", 1, "READ", "on", "ECONNRESET"), ("refuse", 1, "READ", "off"))])
def test_the_manager_is_told_that_a_take_over_needs_more_time(host, one, manager, tmp_path, fault, end):
    """Its watchdog, and its time-out for a start, go on while XenStore doesn't answer, or its connection breaks."""
    install = Installer(one, tmp_path)
    started(one, manager)
    with install.waiting("--take-over") as it_waits:
        renewal = one.popen("daemon", "renew")
        it_waits()
        host.fault(*fault)
    manager.wait_for("RELOADING=1")
    manager.wait_for("WATCHDOG=1")
    manager.wait_for("EXTEND_TIMEOUT_USEC=30000000")
    host.fault(*end)
    manager.wait_for("READY=1")
    assert renewal.wait(timeout=60 * PATIENCE) == 0
    assert one.xenmsg("status").returncode == 0


@pytest.mark.unless(relayed="zero", strict="zero")
def test_the_status_line_follows(one, manager):
    started(one, manager)
    receiver = one.receiver("inbox")
    manager.wait_for("STATUS=Serving domain 1: programs: [1-9], endpoints: 1, links: 0")
    receiver.stop()


@needs_systemd
def test_the_watchdog_hears_of_a_loop_that_turns_and_of_no_other(one, manager):
    started(one, manager, WATCHDOG_USEC="600000")
    for _ in range(3):
        manager.wait_for("WATCHDOG=1")
    with stopped(one.pid):
        while manager.read(0.3):
            pass
        manager.lines.clear()
        assert not manager.read(1)
    manager.wait_for("WATCHDOG=1")


def test_without_a_watchdog_there_are_no_signs_of_life(one, manager):
    started(one, manager)
    while manager.read(0.5):
        pass
    assert "WATCHDOG=1" not in manager.lines


def read_all(fd, timeout):
    """What was written there until it was closed; None: it wasn't, in this time."""
    text = b""
    while readable([fd], timeout):
        piece = os.read(fd, 64)
        if not piece:
            return text
        text += piece
    return None


def test_another_manager_reads_on_a_descriptor_that_it_is_ready(host, one):
    ready, fd = os.pipe()
    host.fault("stall-store", 1, "on")
    daemon = one.popen_command(tool("xenmsgd"), "--ready-fd", str(fd), stdin=subprocess.DEVNULL, pass_fds=[fd])
    os.close(fd)
    assert read_all(ready, 1) is None
    host.fault("stall-store", 1, "off")
    assert read_all(ready, 20 * PATIENCE) == b"\n"
    os.close(ready)
    assert peer_pid(one.socket)
    daemon.terminate()
    assert daemon.wait(20 * PATIENCE) == 0


def test_a_descriptor_that_cannot_be_written_to_is_refused(one):
    for fd in ("", "x", "-1", "0", "77", "3x", "99999999999999999999"):
        done = one.run_command(tool("xenmsgd"), "--ready-fd", fd)
        assert done.returncode == EXIT_USAGE, (fd, done)
        assert f"--ready-fd {fd}: must be a descriptor that is open for writing".encode() in done.stderr


def activate(node, tmp_path, *sockets):
    """systemd-socket-activate, which becomes xenmsgd when somebody comes."""
    config, log = tmp_path / "activated.conf", tmp_path / "activated.log"
    config.write_text("")
    names = [name for name in node.environment if name.startswith(("XENSIM", "XENMSG", "LD_", "ASAN", "UBSAN", "TSAN"))]
    command = [shutil.which("systemd-socket-activate"), *sockets, *(f"--setenv={name}" for name in names), tool("xensim"),
               "exec", "1", "--", tool("xenmsgd"), "--config", str(config)]
    with open(log, "wb") as output:
        return subprocess.Popen(command, env=node.environment, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=output), log


@needs_systemd
@needs_activate
def test_a_socket_handed_over_is_served_and_left_where_it_is(one, tmp_path):
    path = str(tmp_path / "activated.sock")
    process, log = activate(one, tmp_path, "--listen", path)
    try:
        eventually(lambda: is_listening(path), "it listens")
        assert not os.path.exists(one.socket)
        # Who connects before the daemon runs is served.
        done = one.xenmsg("status", "--socket", path, "--json")
        assert done.returncode == 0, (done, log.read_text())
        assert f'"socket":"{path}"' in done.stdout.decode().replace(" ", "")
        assert not os.path.exists(one.socket)
    finally:
        process.terminate()
        assert process.wait(timeout=20 * PATIENCE) == 0, log.read_text()
    assert os.path.exists(path)  # it is the manager's


@contextlib.contextmanager
def handed_over(node, tmp_path, config, *unnamed, **named):
    """A daemon that got listening sockets from its service manager, and its log. It ends in order."""
    file, log = tmp_path / "handed.conf", tmp_path / "handed.log"
    file.write_text(config)
    sockets = [*unnamed, *named.values()]
    names = "LISTEN_FDNAMES=" + ":".join(named) if named else "NAMELESS="
    moves = " ".join(f"{3 + i}<&{each.fileno()}" for i, each in enumerate(sockets))
    with open(log, "wb") as output:
        daemon = node.popen_command(
            "bash", "-c", f'exec {moves}; {names} LISTEN_FDS={len(sockets)} LISTEN_PID=$$ exec "$@"', "bash", tool("xenmsgd"),
            "--config", file, "--socket", tmp_path / "configured.sock", stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            pass_fds=[each.fileno() for each in sockets])
    try:
        yield daemon, log
    finally:
        daemon.terminate()
        assert daemon.wait(timeout=20 * PATIENCE) == 0, log.read_text()


@needs_systemd
def test_the_next_daemon_serves_the_socket_of_the_one_before(one, tmp_path):
    """The service manager keeps its socket: a daemon that ends leaves it as it was, also with somebody waiting at it."""
    with listener(tmp_path / "kept.sock") as programs:
        for _ in range(3):
            with handed_over(one, tmp_path, "", programs) as (_, log):
                done = one.xenmsg("status", "--socket", programs.getsockname(), "--json")
                assert done.returncode == 0, (done, log.read_text())


def gateway_welcome(path):
    """What a daemon that serves a gateway at this path answers to one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as gateway:
        gateway.settimeout(20 * PATIENCE)
        gateway.connect(str(path))
        try:
            gateway.send(b'{"type":"hello","version":1}')
        except BrokenPipeError:
            pass  # it is refused already, and reads why
        try:
            return json.loads(gateway.recv(4096))
        except ConnectionResetError:
            return json.loads(gateway.recv(4096))


@needs_systemd
def test_a_gateway_is_served_at_the_socket_handed_over_for_it(domain_0, tmp_path):
    """It is the manager's, too: the next daemon serves it again. Other names than the gateway's are the programs'."""
    path = tmp_path / "elsewhere" / "gateway.sock"
    path.parent.mkdir()
    with listener(tmp_path / "programs.sock") as programs, listener(path, socket.SOCK_SEQPACKET) as gateway:
        for sockets in ({"xenmsgd.socket": programs, "gateway": gateway}, {"gateway": gateway, "any": programs}):
            with handed_over(domain_0, tmp_path, "[hosts]\nname = hosta\n", **sockets) as (_, log):
                assert gateway_welcome(path)["host"] == "hosta", log.read_text()
                hosts = domain_0.xenmsg("hosts", "--socket", programs.getsockname())
                assert hosts.returncode == 0 and b"hosta" in hosts.stdout, hosts
            assert path.exists() and not (tmp_path / "gateway.sock").exists()


@needs_systemd
def test_a_daemon_without_a_hosts_name_tells_a_gateway_so(domain_0, tmp_path):
    path = tmp_path / "gateway.sock"
    with listener(tmp_path / "programs.sock") as programs, listener(path, socket.SOCK_SEQPACKET) as gateway:
        with handed_over(domain_0, tmp_path, "", any=programs, gateway=gateway):
            answer = gateway_welcome(path)
    assert answer["type"] == "refused" and "[hosts] name" in answer["why"], answer


@needs_systemd
def test_without_a_gateways_socket_status_names_the_cure(domain_0, tmp_path):
    """As where the gateway's package isn't there yet: the daemon can't make that socket itself."""
    (tmp_path / "gateway.sock").mkdir()
    with listener(tmp_path / "programs.sock") as programs:
        with handed_over(domain_0, tmp_path, "[hosts]\nname = hosta\n", programs) as (_, log):
            done = domain_0.xenmsg("status", "--socket", programs.getsockname(), "--json")
            assert done.returncode == 0, (done, log.read_text())
            told = json.loads(done.stdout)["hosts"]
            assert told["gateway"] == "missing" and "systemctl enable xenmsg-gateway.socket" in told["last_error"], told
            doctor = domain_0.xenmsg("doctor", "--socket", programs.getsockname())
    assert b"systemctl enable xenmsg-gateway.socket" in doctor.stdout, doctor.stdout.decode()
    assert re.search(" warning: no gateway .*systemctl enable xenmsg-gateway.socket", log.read_text())


@needs_systemd
@needs_activate
@pytest.mark.parametrize("kind, more, reason", [
    (socket.SOCK_DGRAM, ["--datagram"], "the service manager must hand over one listening Unix stream socket"),
    (socket.SOCK_STREAM, ["--listen", "OTHER"], "the service manager hands over two sockets, PATH and OTHER, and one is served: in a "
                                                "drop-in of its unit an empty ListenStream= comes before another path"),
    (socket.SOCK_STREAM, ["--fdname=gateway"], "the service manager must hand over one listening Unix socket for packets")])
def test_what_is_not_one_socket_for_it_is_refused(one, tmp_path, kind, more, reason):
    """For good: to start it again would mend nothing."""
    path, other = str(tmp_path / "activated.sock"), str(tmp_path / "other.sock")
    process, log = activate(one, tmp_path, "--listen", path, *(word.replace("OTHER", other) for word in more))
    try:
        eventually(lambda: os.path.exists(path) if kind == socket.SOCK_DGRAM else is_listening(path), "it listens")
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(path)
            if kind == socket.SOCK_DGRAM:
                client.send(b"wake up")
            assert process.wait(timeout=20 * PATIENCE) == EXIT_USAGE
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    assert " error: " + reason.replace("PATH", path).replace("OTHER", other) in log.read_text()


@needs_analyze
@pytest.mark.parametrize("line, is_good", [("", True), ("ListenStream=\n", False)])
def test_the_drop_in_of_the_manual_page_moves_the_one_socket(tmp_path, line, is_good):
    """And with two, as without its empty line, systemd itself refuses the link at the default path."""
    units, drop_in = tmp_path / "units", tmp_path / "units" / "xenmsgd.socket.d"
    shutil.copytree(UNITS, units)
    drop_in.mkdir()
    with open(os.path.join(SOURCES, "doc", "xenmsgd.conf.5"), encoding="utf-8") as page:
        text = re.search(r"^\[Socket\]\n.*?(?=^\.fi$)", page.read(), re.M | re.S)[0]
    (drop_in / "override.conf").write_text(text.replace(line, "", 1))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", units / "xenmsgd.socket"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0 and "xenmsgd.socket" not in done.stderr) == is_good, done.stderr


@needs_analyze
def test_the_units_are_valid_and_the_service_is_confined():
    units = [os.path.join(UNITS, name) for name in ("xenmsgd.service", "xenmsgd.socket", "xenmsg-keeper.service", "xenmsg-keeper.socket",
                                                "xenmsg-exporter.service", "xenmsg-serve@.service")]
    gateway = os.path.join(UNITS, "xenmsg-gateway.service")
    if os.path.exists(gateway):  # built with NATS
        units[1:1] = [gateway, gateway.replace(".service", ".socket")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    complaints = [line for line in done.stderr.splitlines() if "xenmsg" in line]
    assert done.returncode == 0 and not complaints, done.stderr
    text = pathlib.Path(units[0]).read_text(encoding="utf-8")
    lines = text.splitlines()
    assert f"ExecStart={tool('xenmsg')} serve %i -- /etc/xenmsg/serve.d/%i" in pathlib.Path(units[-1]).read_text(encoding="utf-8").splitlines()
    sockets = pathlib.Path(UNITS, "xenmsgd.socket").read_text(encoding="utf-8").splitlines()
    assert f"Backlog={QUEUE_MAX}" in sockets, "the queue is as short as the daemon's own"
    # A reload fails where the new rules have a mistake, and a start isn't tried again and again.
    assert f"ExecReload={tool('xenmsg')} policy reload" in lines
    assert any(re.fullmatch("RestartPreventExitStatus=.*\\b2\\b.*", line) for line in lines)
    done = subprocess.run(["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=15", units[0]],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    print(done.stdout)
    # What it can't bear is explained, and is all there is.
    for line in done.stdout.splitlines():
        if line.startswith("✗"):
            name = line.split()[1].split("/")[0]
            assert re.search(rf"^#.*{re.escape(name)}", text, re.MULTILINE), line
