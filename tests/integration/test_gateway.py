# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg-gateway between real nats-servers and daemons that are played here: bytes arrive in order and all of them, or the
conversation ends; whatever is killed, forbidden or slow is said, and bounded."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import signal
import statistics
import subprocess
import threading
import time

import pytest

from conftest import TIMEOUT, program
from gateway_rig import Daemon, Gateway, Server, carries, connected, free_port, nats_server, pump, running, wait_for
from gateway_rings import PIECE, RING
from messaging import SOURCES, is_sanitized, resident, stopped
from nats_rig import Client, with_credentials, with_nkeys

BYTES = random.Random(7).randbytes(24 << 20)


@pytest.fixture
def rig(tmp_path):
    """Makes servers and gateways, and ends them."""
    class Rig:
        def __init__(self):
            self.servers, self.gateways = [], []

        def server(self, *args, **keywords):
            self.servers.append(Server(tmp_path, *args, **keywords))
            return self.servers[-1]

        def gateway(self, *args, **keywords):
            self.gateways.append(Gateway(tmp_path, *args, **keywords))
            return self.gateways[-1]

        def two(self, **keywords):
            """Two hosts that know each other."""
            server = self.server()
            a, b = (self.gateway(host, [server.url], **keywords) for host in ("hosta", "hostb"))
            meet(a, b)
            return server, a, b

    made = Rig()
    made.directory = tmp_path
    yield made
    for gateway in made.gateways:
        if gateway.process and gateway.process.poll() is None:
            gateway.kill()
        gateway.daemon.close()
        print(f"--- {gateway.host}:\n{gateway.log()}")
    for server in made.servers:
        server.kill()


def meet(a, b):
    a.daemon.wait(type="host", host=b.host, up=True, instance=b.daemon.instance)
    b.daemon.wait(type="host", host=a.host, up=True, instance=a.daemon.instance)


def why_down(gateway, text):
    """Waits until the daemon has been told that the gateway isn't connected, for a reason with this text."""
    while text not in (why := gateway.daemon.wait(type="state", up=False)["why"]):
        pass
    return why


def ended(stream):
    """Reads what is left, until the end."""
    stream.settimeout(TIMEOUT)
    rest = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := stream.recv(1 << 20):
            rest += piece
    return rest


def test_bytes_flow_both_ways_and_are_equal(rig):
    _, a, b = rig.two()
    at_a, at_b = connected(a, b)
    got = {}
    back = threading.Thread(target=lambda: got.update(back=pump(at_b, at_a, BYTES[::-1])))
    back.start()
    assert pump(at_a, at_b, BYTES) == BYTES
    back.join(TIMEOUT)
    assert got["back"] == BYTES[::-1]
    # What was written before the end arrives before the end.
    at_a.sendall(b"good-bye")
    at_a.close()
    assert ended(at_b) == b"good-bye"


def test_after_a_killed_server_hosts_find_each_other_again(rig):
    server, a, b = rig.two()
    at_a, at_b = carries(a, b, b"before")
    server.kill()
    assert ended(at_a) == b"" and ended(at_b) == b""
    why_down(a, "not connected to NATS")
    number, _ = a.daemon.ask("hostb")
    assert a.daemon.wait(type="failed", id=number)["error"] == "EHOSTUNREACH"
    server.start()
    a.is_up()
    b.is_up()
    carries(b, a, BYTES[:1 << 20])


def write_until_stuck(stream, least=0):
    """Writes until nothing more is taken for a second, and more than that was. Returns how many bytes."""
    written = 0
    stream.settimeout(1)
    while True:
        try:
            written += stream.send(BYTES[:65536])
        except TimeoutError:
            if written > least:
                return written


def read_exactly(stream, size):
    stream.settimeout(TIMEOUT)
    got = 0
    while got < size and (piece := stream.recv(1 << 20)):
        got += len(piece)
    return got


def test_a_server_that_stands_still_for_a_while_is_a_pause(rig):
    server, a, b = rig.two()
    at_a, at_b = connected(a, b)
    with stopped(server.process.pid):
        written = write_until_stuck(at_a)
    assert read_exactly(at_b, written) == written
    assert "lost" not in a.log() + b.log()


@pytest.mark.slow
def test_a_server_that_stands_still_for_good_is_lost(rig):
    server, a, b = rig.two()
    at_a, at_b = connected(a, b)
    with stopped(server.process.pid):
        write_until_stuck(at_a)
        assert ended(at_a) == b"" and ended(at_b) == b""
        for gateway in (a, b):  # before it goes on, or that one's connection lives
            why_down(gateway, "not connected to NATS")
    a.is_up()
    b.is_up()
    carries(a, b)


def test_a_server_killed_under_load_leaves_a_beginning_of_each(rig):
    server, a, b = rig.two()
    for _ in range(3):
        at_a, at_b = connected(a, b)
        half = threading.Event()
        got = bytearray()

        def read(stream=at_b, into=got, event=half):
            stream.settimeout(TIMEOUT)
            with contextlib.suppress(OSError):
                while piece := stream.recv(65536):
                    into += piece
                    if len(into) > 2 << 20:
                        event.set()
        reader = threading.Thread(target=read)
        reader.start()
        writer = threading.Thread(target=pump_into, args=(at_a,))
        writer.start()
        assert half.wait(TIMEOUT)
        server.kill()
        reader.join(TIMEOUT)
        writer.join(TIMEOUT)
        assert not reader.is_alive() and len(got) >= 2 << 20
        assert bytes(got) == (BYTES * (len(got) // len(BYTES) + 1))[:len(got)]
        server.start()
        a.is_up()
        b.is_up()


def pump_into(stream):
    with contextlib.suppress(OSError):
        while True:
            stream.sendall(BYTES)


def test_without_descriptors_a_gateway_refuses_and_goes_on(rig):
    _, a, b = rig.two()
    c = rig.gateway("hostc", [rig.servers[0].url])
    meet(a, c)
    at_a, at_c = connected(a, c)
    open_files, limits = (f"/proc/{a.process.pid}/fd", resource.prlimit(a.process.pid, resource.RLIMIT_NOFILE))
    for left in range(4):
        resource.prlimit(a.process.pid, resource.RLIMIT_NOFILE, (len(os.listdir(open_files)) + left, limits[1]))
        number, end = a.daemon.ask("hostb")
        failed = a.daemon.wait(type="failed", id=number)
        assert failed["error"] == "EHOSTUNREACH" and "no descriptors left" in failed["why"]
        assert ended(end) == b""
        number, _ = b.daemon.ask("hosta")
        end = a.daemon.answer("accept", "hostb", a.daemon.wait(type="incoming")["id"])
        assert b.daemon.wait(type="failed", id=number)["error"] == "EHOSTUNREACH"
        assert ended(end) == b""
        assert pump(at_a, at_c, b"undisturbed") == b"undisturbed"
    resource.prlimit(a.process.pid, resource.RLIMIT_NOFILE, limits)
    carries(a, b)


def test_a_killed_gateway_ends_conversations_and_comes_back(rig):
    _, a, b = rig.two(dead_after="3s")
    at_a, at_b = connected(a, b)
    b.kill()
    assert ended(at_b) == b""
    b.start()
    # The other end isn't told that it was killed: its successor says so.
    b.is_up()
    assert ended(at_a) == b""
    at_a, at_b = carries(a, b, BYTES[:1 << 20])
    b.kill()
    assert "dead-after" in a.daemon.wait(type="host", host="hostb", up=False)["why"]
    assert ended(at_a) == b""


def test_a_stopped_gateway_says_so(rig):
    _, a, b = rig.two()
    at_a, _ = connected(a, b)
    assert b.stop() == 0
    assert a.daemon.wait(type="host", host="hostb", up=False)["why"] == "its gateway has stopped"
    assert ended(at_a) == b""


def test_a_daemon_that_goes_and_comes_again(rig):
    _, a, b = rig.two()
    at_a, _ = connected(a, b)
    path = b.daemon.path
    b.daemon.close()
    assert ended(at_a) == b""
    a.daemon.wait(type="host", host="hostb", up=False)
    b.daemon = Daemon(path, "hostb")
    meet(a, b)
    carries(a, b)


USERS = """
authorization {
  users: [
    { user: "hosta", password: "a", permissions: {
        publish: ["xenmsg.to.*.hosta", "xenmsg.presence.hosta"], subscribe: ["xenmsg.to.hosta.*", "xenmsg.presence.*"] } }
    { user: "hostb", password: "b", permissions: {
        publish: ["xenmsg.to.*.hostb", "xenmsg.presence.hostb"], subscribe: ["xenmsg.to.hostb.*", "xenmsg.presence.*"] } }
  ]
}
"""


def user(rig, name, password):
    path = rig.directory / f"password-{name}-{password}"
    path.write_text(password + "\n")
    path.chmod(0o600)
    return f"user = {name}\npassword-file = {path}"


def test_permissions_of_another_host_forbid_and_it_is_said(rig):
    server = rig.server(config=USERS)
    a = rig.gateway("hosta", [server.url], user(rig, "hosta", "a"))
    a.is_up()
    liar = rig.gateway("hosta2", [server.url], user(rig, "hostb", "b"))
    assert "hosta2" in why_down(liar, "Permissions Violation")
    liar.says("is the user in [nats] the one of hosta2?")
    number, _ = liar.daemon.ask("hosta")
    assert liar.daemon.wait(type="failed", id=number)["error"] == "EHOSTUNREACH"
    assert not any(packet["type"] == "host" and packet["host"] == "hosta2" for packet in a.daemon.packets)


def test_a_right_that_is_given_again_counts(rig):
    """By reloads of the server, which tells nobody."""
    taken = USERS.replace('"xenmsg.to.hosta.*", "xenmsg.presence.*"', '"xenmsg.to.hosta.*"', 1)
    server = rig.server(config=taken)
    a, b = (rig.gateway(host, [server.url], user(rig, host, host[-1])) for host in ("hosta", "hostb"))
    b.is_up()
    why_down(a, "Permissions Violation")
    server.path.write_text(server.path.read_text().replace(taken, USERS))
    server.process.send_signal(signal.SIGHUP)
    meet(a, b)


@pytest.mark.parametrize("name", ["presence", "subscription"])
def test_a_hosts_name_means_nothing_in_a_complaint(rig, name):
    of_it = """{ user: "NAME", password: "e", permissions: {
        publish: ["xenmsg.to.*.NAME", "xenmsg.presence.NAME"], subscribe: ["xenmsg.to.NAME.*", "xenmsg.presence.*"] } }""".replace("NAME", name)
    config = USERS.replace("xenmsg.to.*.hosta", "xenmsg.to.hostb.hosta", 1).replace("users: [", f"users: [\n    {of_it}")
    server = rig.server(config=config)
    a, b = (rig.gateway(host, [server.url], user(rig, host, host[-1])) for host in ("hosta", "hostb"))
    meet(a, b)
    it = rig.gateway(name, [server.url], user(rig, name, "e"))
    meet(it, b)
    a.daemon.wait(type="host", host=name, up=True)
    a.daemon.ask(name)  # which the server forbids
    a.says(f'Publish to "xenmsg.to.{name}.hosta"')
    carries(a, b)
    assert "the NATS server forbids" not in a.log()


def test_a_wrong_password_is_said_and_tried_again(rig):
    server = rig.server(config=USERS)
    a = rig.gateway("hosta", [server.url], user(rig, "hosta", "wrong"))
    why_down(a, "Authorization Violation")
    (rig.directory / "password-hosta-wrong").write_text("a\n")
    a.is_up()


def test_a_host_that_speaks_in_the_name_of_another_is_not_heard(rig):
    password = 'user: "hostc", password: "c", permissions: { publish: ["xenmsg.to.*.hostc", "xenmsg.presence.hostc"]'
    server = rig.server(config=USERS.replace("users: [", f'users: [\n{{ {password}, subscribe: ["xenmsg.to.hostc.*"] }} }},'))
    a, b = (rig.gateway(host, [server.url], user(rig, host, host[-1])) for host in ("hosta", "hostb"))
    meet(a, b)
    at_a, at_b = connected(a, b)
    liar = Client(server, "hostc", "c")
    connect, here = (bytes([1, kind]) + bytes(2) + (1 << 20).to_bytes(4, "little") + bytes(range(16)) + bytes(8) for kind in (1, 7))
    presence = json.dumps({"version": 1, "gateway": "ab" * 16, "instance": b.daemon.instance, "up": True, "joining": False, "age": 10**9})
    for subject, data in (("xenmsg.to.hosta.hostb", connect), ("xenmsg.to.hosta.hostb", here + presence.encode()),
                          ("xenmsg.presence.hostb", presence.encode()), ("xenmsg.presence.hosta", presence.encode())):
        liar.publish(subject, data)
        assert [error for error in liar.errors() if f'Publish to "{subject}"' in error]
    for subject in ("xenmsg.to.hosta.*", "xenmsg.to.>", ">"):
        liar.say(f"SUB {subject} 1")
        assert [error for error in liar.errors() if f'Subscription to "{subject}"' in error]
    # What it may say in its own name is heard, and disturbs nobody.
    liar.publish("xenmsg.presence.hostc", presence.encode())
    a.daemon.wait(type="host", host="hostc", up=True, take=False)
    liar.publish("xenmsg.to.hosta.hostc", connect)
    a.daemon.wait(type="incoming", host="hostc", take=False)
    assert liar.errors() == []
    assert pump(at_a, at_b, BYTES[:1 << 20]) == BYTES[:1 << 20]
    assert not [packet for packet in a.daemon.packets if packet["type"] in ("host", "incoming") and packet["host"] != "hostc"]
    liar.close()


def test_late_news_of_a_host_ends_no_conversation_with_the_new(rig):
    """A host that has changed just now is heard again half a second later: what began in between is with the one that is there."""
    server, a, b = rig.two()
    other = Client(server, "", "")
    # Of two that are as old as each other the one with the lesser number keeps the name: never this one.
    presence = {"version": 1, "gateway": "ff" * 16, "instance": b.daemon.instance, "up": True, "joining": False, "age": 0}

    def is_heard():
        other.publish("xenmsg.presence.hostb", json.dumps(presence).encode())
        return a.log().count("host hostb is up") > 1
    wait_for(is_heard, "another gateway of hostb in the log of hosta")
    other.say("SUB xenmsg.presence.hostb 1")
    while '"gateway":"' + "ff" * 16 in (text := other.message()) or '"up":true' not in text:  # its own, which says that it is there
        pass
    at_a, at_b = connected(a, b)
    wait_for(lambda: a.log().count("host hostb is up") == 3, "the late news in the log of hosta")
    assert pump(at_a, at_b, BYTES[:1 << 20]) == BYTES[:1 << 20]
    other.close()


@pytest.mark.parametrize("how", [with_nkeys, with_credentials])
def test_keys_instead_of_passwords(rig, how):
    config, settings = how(rig.directory, ("hosta", "hostb"))
    server = rig.server(config=config)
    a, b = (rig.gateway(host, [server.url], settings[host]) for host in ("hosta", "hostb"))
    meet(a, b)
    carries(a, b, b"signed")
    # One's own key alone opens the door: a's host with b's key has b's rights.
    liar = rig.gateway("hosta2", [server.url], settings["hostb"])
    assert "hosta2" in why_down(liar, "Permissions Violation")


def test_a_withdrawn_right_ends_at_once_and_may_come_back(rig):
    server = rig.server(config=USERS)
    a, b = (rig.gateway(host, [server.url], user(rig, host, host[-1]), dead_after="3s") for host in ("hosta", "hostb"))
    meet(a, b)
    _, at_b = connected(a, b)
    config = server.path.read_text()
    server.path.write_text(config.replace('user: "hostb"', 'user: "somebody-else"'))
    server.process.send_signal(signal.SIGHUP)
    assert ended(at_b) == b""
    why_down(b, "Authorization Violation")
    assert "dead-after" in a.daemon.wait(type="host", host="hostb", up=False)["why"]
    server.path.write_text(config)
    server.process.send_signal(signal.SIGHUP)
    meet(a, b)
    carries(a, b)


def test_two_hosts_of_one_name(rig):
    server, a, b = rig.two()
    at_a, at_b = connected(a, b)
    late = rig.gateway("hosta", [server.url])
    assert late.process.wait(TIMEOUT) == 4
    assert "another host" in late.log() and a.daemon.instance in late.log()
    assert pump(at_a, at_b, b"undisturbed") == b"undisturbed"
    assert a.process.poll() is None


def test_a_slow_reader_costs_a_ring_and_no_more(rig):
    server, a, b = rig.two()
    at_a, at_b = connected(a, b)
    before = resident(a.process.pid), resident(b.process.pid)
    written = write_until_stuck(at_a, RING - 2 * PIECE)
    assert written < RING
    assert resident(a.process.pid) - before[0] < 8 << 20 and resident(b.process.pid) - before[1] < 8 << 20
    assert read_exactly(at_b, written) == written
    assert "lost" not in a.log()


STATUS = b"NATS/1.0 503\r\n\r\n"
JUNK = {
    # libnats makes an outcome of this header instead of a message.
    "status": f"HPUB xenmsg.to.hosta.hostc {len(STATUS)} {len(STATUS)}\r\n".encode() + STATUS + b"\r\n",
    "unreadable": b"PUB xenmsg.to.hosta.hostc 4\r\njunk\r\n",
    "presence": b"PUB xenmsg.presence.hostc 2\r\n{}\r\n",
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_junk_of_one_host_slows_no_round_trips_of_others(rig, junk):
    """Without and with, in turns, so that both have the same machine; the server has the same work in both."""
    server, a, b = rig.two()
    at_a, at_b = connected(a, b)
    hostile = Client(server, "hostc", "x")
    elsewhere = junk.replace(b"to.hosta", b"to.hostx").replace(b"presence.", b"nowhere.")

    def round_trip(before):
        hostile.socket.sendall(before)
        began = time.monotonic()
        at_b.sendall(b"question")
        assert read_exactly(at_a, 8) == 8
        at_a.sendall(b"answered")
        assert read_exactly(at_b, 8) == 8
        return time.monotonic() - began

    def ratio():
        without, with_junk = zip(*((round_trip(elsewhere * 200), round_trip(junk * 200)) for _ in range(100)))
        return statistics.quantiles(with_junk, n=4)[0] / statistics.quantiles(without, n=4)[0]

    # Chance alone (who is woken on which CPU) makes 2 of it now and then, but not each time; a sanitizer makes junk dearer.
    assert any(ratio() < (10 if is_sanitized() else 2) for _ in range(20))
    hostile.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A CA, a certificate for localhost by it, one for another name, and one by another CA."""
    directory = tmp_path_factory.mktemp("tls")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)
    for ca in ("ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={ca}",
                "-keyout", f"{ca}.key", "-out", f"{ca}.pem")
    for name, ca, subject in (("good", "ca", "DNS:localhost"), ("misnamed", "ca", "DNS:elsewhere.example"),
                              ("foreign", "other-ca", "DNS:localhost")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key",
                "-out", f"{name}.csr")
        (directory / "names").write_text(f"subjectAltName={subject}\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
                "-days", "2", "-extfile", "names", "-out", f"{name}.pem")
    (directory / "system").mkdir()
    shutil.copy(directory / "ca.pem", directory / "system")
    openssl("rehash", "system")
    return directory


def tls(certificates, name):
    return f'tls {{ cert_file: "{certificates}/{name}.pem", key_file: "{certificates}/{name}.key" }}'


def test_tls_with_a_verified_name(rig, certificates):
    server = rig.server(config=tls(certificates, "good"))
    a, b = (rig.gateway(host, [f"tls://localhost:{server.port}"], f"tls-ca = {certificates}/ca.pem")
            for host in ("hosta", "hostb"))
    meet(a, b)
    carries(a, b, BYTES[:8 << 20])


@pytest.mark.parametrize("name", ["misnamed", "foreign"])
def test_a_wrong_certificate_is_refused(rig, certificates, name):
    server = rig.server(config=tls(certificates, name))
    a = rig.gateway("hosta", [f"tls://localhost:{server.port}"], f"tls-ca = {certificates}/ca.pem")
    assert "certificate" in why_down(a, "SSL") or "hostname" in a.log()
    assert "connected to" not in a.log().replace("not connected to", "")


@pytest.mark.parametrize("where", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_tls_ca_replaces_the_cas_of_the_system(rig, certificates, where):
    """These variables are where OpenSSL finds the system's. Without tls-ca it is by these that the server is trusted."""
    server = rig.server(config=tls(certificates, "good"))
    of_system = {where: certificates / {"SSL_CERT_FILE": "ca.pem", "SSL_CERT_DIR": "system"}[where]}
    url = f"tls://localhost:{server.port}"
    rig.gateway("hosta", [url], environment=of_system).is_up()
    b = rig.gateway("hostb", [url], f"tls-ca = {certificates}/other-ca.pem", environment=of_system)
    assert "certificate" in why_down(b, "SSL")
    assert "connected to" not in b.log().replace("not connected to", "")


def test_a_server_without_tls_is_refused_where_tls_is_asked_for(rig, certificates):
    server = rig.server()
    a = rig.gateway("hosta", [f"tls://localhost:{server.port}"], f"tls-ca = {certificates}/ca.pem")
    why_down(a, "Secure Connection not available")


def test_settings_that_are_wrong_are_said(rig):
    a = rig.gateway("hosta", ["nats://localhost:4222"], "credentials = /nowhere/hosta.creds")
    assert a.process.wait(TIMEOUT) == 2
    assert "/nowhere/hosta.creds: can't be read: No such file or directory" in a.log()
    for line, wrong in (("servers = http://x", "must be 1 to 16 URLs"), ("servers = nats://u:p@x", "without user or password"),
                        ("servers = nats://x\nuser = a", "need each other"), ("server = nats://x", "unknown key server")):
        a.config.write_text(f"[nats]\n{line}\n")
        done = subprocess.run([program("xenmsg-gateway"), "--check-config", "--config", a.config], capture_output=True, check=False)
        assert done.returncode == 2 and wrong in done.stderr.decode(), done.stderr


@pytest.mark.parametrize("mode, wrong", [(0o600, b""), (0o640, b""), (0o644, b"isn't secret"), (0o602, b"isn't trusted")])
def test_files_that_others_may_change_or_read_are_refused(tmp_path, mode, wrong):
    file, config = tmp_path / "file", tmp_path / "gateway.conf"
    (tmp_path / "other").touch(0o600)
    file.touch()
    file.chmod(mode)
    for lines in ("tls-ca = {0}", "tls-cert = {0}\ntls-key = {1}/other", "tls-cert = {1}/other\ntls-key = {0}", "credentials = {0}",
                  "nkey = UX\nnkey-seed = {0}", "user = a\npassword-file = {0}"):
        config.write_text(f"[nats]\nservers = nats://x\n{lines.format(file, tmp_path)}\n")
        done = subprocess.run([program("xenmsg-gateway"), "--check-config", "--config", config], capture_output=True, check=False)
        refused = wrong if mode & 2 or not lines.startswith(("tls-ca", "tls-cert = {0}")) else b""
        assert done.returncode == (2 if refused else 0) and refused in done.stderr, (lines, done)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give a file to another user")
def test_a_password_that_another_user_may_change_is_not_used(rig):
    password = rig.directory / "password"
    password.write_text("secret\n")
    os.chown(password, 4711, -1)
    a = rig.gateway("hosta", ["nats://localhost:4222"], f"user = a\npassword-file = {password}")
    assert a.process.wait(TIMEOUT) == 2
    assert f"{password}: isn't trusted, since uid 4711 owns it" in a.log()


def blocks():
    """The blocks between ``` in doc/hosts.md that set three hosts up."""
    with open(os.path.join(SOURCES, "doc/hosts.md"), encoding="utf-8") as file:
        section, = re.findall(r"^## Three hosts$(.*?)^## ", file.read(), re.M | re.S)
    return re.findall(r"^```\n(.*?)^```$", section, re.M | re.S)


def test_the_commands_and_settings_of_hosts_md(rig):
    make_files, start, _, _, settings, *_ = blocks()  # test_hosts.py has the rest
    directory, port = rig.directory, free_port()
    subprocess.run(["bash", "-e", "-c", make_files.replace("nats.example", "localhost")], cwd=directory, check=True,
                   capture_output=True)
    shutil.copy(os.path.join(SOURCES, "examples/nats/nats-server.conf"), directory)
    config = directory / "nats-server.conf"
    config.write_text(config.read_text().replace("0.0.0.0:4222", f"127.0.0.1:{port}"))
    assert start == "PATH=$PATH:/usr/sbin nats-server -c nats-server.conf\n"
    with running(nats_server(), "-c", "nats-server.conf", cwd=directory):
        gateways = []
        for host in ("hosta", "hostb", "hostc"):
            gateways.append(rig.gateway(host, ["nats://unused"], start=False))
            gateways[-1].config.write_text(
                settings.replace("nats.example:4222", f"localhost:{port}").replace("/etc/xenmsg", str(directory))
                .replace("hosta", host) + f"[gateway]\ndaemon-socket = {gateways[-1].daemon.path}\n")
            gateways[-1].start()
        a, b, c = gateways
        for one, other in ((a, b), (a, c), (b, c)):
            one.daemon.wait(take=False, type="host", host=other.host, up=True)
            other.daemon.wait(take=False, type="host", host=one.host, up=True)
            carries(one, other, BYTES[:1 << 20])
        a.says("host hosta can be reached through")
        # None of them may speak by another one's name.
        b.kill()
        b.config.write_text(b.config.read_text().replace("hostb.password", "hosta.password"))
        b.start()
        b.says("Authorization Violation")
