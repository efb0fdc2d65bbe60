# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim's event channels, as Linux's evtchn driver on Xen shows them: what tests/conformance doesn't ask."""

import errno
import os
import random
import signal
import subprocess

import pytest

from conftest import TIMEOUT, wait_for
from xen_ends import bound, take

QUIET_MS = 200


def test_a_blocking_pending_waits(host):
    one, two, server_port, client_port = bound(host)
    one.tell("pending", 0)
    assert not one.answers_within(QUIET_MS / 1000)
    two.ok("notify", 0, client_port)
    assert one.answer() == f"ok {server_port}"


def test_a_busy_port_does_not_starve_the_others(host):
    one, two = host.xen(1), host.xen(2)
    one.ok("evtchn-open"), two.ok("evtchn-open")
    servers = [one.ok("bind-unbound", 0, 2) for _ in range(3)]
    clients = [two.ok("bind-interdomain", 0, 1, port) for port in servers]
    for port in clients:
        two.ok("notify", 0, port)
    taken = []
    for _ in range(3):
        taken.append(one.ok("pending", 0))
        one.ok("unmask", 0, taken[-1])
        two.ok("notify", 0, clients[0])
    assert sorted(taken) == sorted(servers)


def test_a_port_belongs_to_its_handle(host):
    one, two, server_port, client_port = bound(host)
    assert one.ok("evtchn-open") == 1
    assert one.error("notify", 1, server_port) == errno.ENOTCONN
    assert one.error("unbind", 1, server_port) == errno.ENOTCONN
    other = host.xen(1)
    other.ok("evtchn-open")
    assert other.error("notify", 0, server_port) == errno.ENOTCONN
    # The driver skips what it doesn't know.
    assert one.ok("unmask", 1, server_port) == 0


def test_a_duplicated_handle_is_the_same_device(host):
    one, two, server_port, client_port = bound(host)
    second = one.ok("evtchn-fdopen", 0)
    assert one.ok("notify", second, server_port) == 0
    assert two.ok("pending", 0) == client_port


def test_bad_ports_are_refused(host):
    one = host.xen(1)
    one.ok("evtchn-open")
    assert one.error("notify", 0, 1 << 20) == one.error("unbind", 0, 500) == errno.ENOTCONN
    assert one.error("unbind", 0, 1 << 20) == one.error("bind-virq", 0, 1 << 30) == errno.EINVAL


@pytest.mark.parametrize("end", ["crash", "destroy", "shutdown"])
def test_domain_0_has_an_interrupt_when_a_domain_ends(host, end):
    zero, one = host.xen(0), host.xen(1)
    zero.ok("evtchn-open"), one.ok("evtchn-open")
    port = zero.ok("bind-virq", 0, 3)
    one.ok("bind-virq", 0, 3)
    host.sim(end, 2)
    assert zero.ok("pending", 0) == port
    assert one.ok("poll", 0, 0) == 0
    assert zero.ok("unbind", 0, port) == 0
    host.sim(end, 3)
    assert zero.ok("poll", 0, 0) == 0


def test_only_the_domain_it_is_meant_for_binds(host):
    one, three = host.xen(1), host.xen(3)
    one.ok("evtchn-open"), three.ok("evtchn-open")
    port = one.ok("bind-unbound", 0, 2)
    assert three.error("bind-interdomain", 0, 1, port) == errno.EINVAL
    assert host.domain(3)["event_channels"]["used"] == 0


def test_a_port_whose_peer_left_can_be_bound_again(host):
    one, two, server_port, client_port = bound(host)
    two.ok("unbind", 0, client_port)
    again = two.ok("bind-interdomain", 0, 1, server_port)
    take(two, again)
    assert one.ok("notify", 0, server_port) == 0
    assert two.ok("pending", 0) == again


def test_the_event_of_an_unbound_port_stays_in_the_ring(host):
    one, two, server_port, client_port = bound(host)
    two.ok("notify", 0, client_port)
    two.ok("notify", 0, client_port)
    assert one.ok("unbind", 0, server_port) == 0
    assert one.ok("pending", 0) == server_port
    one.ok("unmask", 0, server_port)
    # What was pending has gone with the port.
    assert one.ok("poll", 0, 0) == 0
    assert one.error("notify", 0, server_port) == errno.ENOTCONN


def test_many_ports_of_a_handle_are_read_in_their_events_order(host):
    one, two = host.xen(1), host.xen(2)
    one.ok("evtchn-open"), two.ok("evtchn-open")
    servers = [one.ok("bind-unbound", 0, 2) for _ in range(200)]
    clients = {port: two.ok("bind-interdomain", 0, 1, port) for port in servers}
    assert [two.ok("pending", 0) for _ in servers] == list(clients.values())
    random.Random(1).shuffle(servers)
    for port in servers:
        two.ok("notify", 0, clients[port])
    assert [one.ok("pending", 0) for _ in servers] == servers


def test_no_event_is_lost_between_many_senders_and_a_reader(host):
    """Each sender's event is read: each waits for an answer to it before it sends the next one."""
    server = host.xen(1)
    server.ok("evtchn-open")
    ports = {}
    for number in range(8):
        sender = host.xen(2)
        sender.ok("evtchn-open")
        port = server.ok("bind-unbound", 0, 2)
        ports[port] = (sender, sender.ok("bind-interdomain", 0, 1, port))
    for port, (sender, client_port) in ports.items():
        sender.ok("pending", 0)
        sender.ok("unmask", 0, client_port)
        sender.tell("ping", 0, client_port, 2000)
    assert server.ok("pong", 0, 8 * 2000) == 8 * 2000
    assert [sender.answer() for sender, _ in ports.values()] == ["ok 2000"] * 8


def test_1016_ports_and_then_enospc(host):
    one = host.xen(1)
    one.ok("evtchn-open")
    ports = [one.ok("bind-unbound", 0, 2) for _ in range(1016)]
    assert len(set(ports)) == 1016
    assert one.error("bind-unbound", 0, 2) == errno.ENOSPC
    one.ok("unbind", 0, ports[500])
    assert one.ok("bind-unbound", 0, 2) == ports[500]
    one.ok("evtchn-close", 0)
    assert host.domain(1)["event_channels"] == {"used": 0, "limit": 1016, "handles": 0}


def test_the_limit_can_be_set(host):
    host.fault("evtchn-limit", 1, 2)
    one = host.xen(1)
    one.ok("evtchn-open")
    one.ok("bind-unbound", 0, 2), one.ok("bind-unbound", 0, 2)
    assert one.error("bind-unbound", 0, 2) == errno.ENOSPC


def test_lost_events_are_lost_and_the_next_one_arrives(host):
    one, two, server_port, client_port = bound(host)
    host.fault("lose-event", 1, 2)
    two.ok("notify", 0, client_port)
    two.ok("notify", 0, client_port)
    assert one.ok("poll", 0, QUIET_MS) == 0
    two.ok("notify", 0, client_port)
    assert one.ok("pending", 0) == server_port


def test_a_zombie_has_no_ports_to_bind_to(host):
    one, two, server_port, client_port = bound(host)
    _, ref = one.ok("share", 2, 1, 1)
    mapped = two.ok("map", 1, ref, 1, 1)
    host.sim("destroy", 1)
    assert two.error("bind-interdomain", 0, 1, server_port) == errno.EINVAL
    assert two.ok("notify", 0, client_port) == 0
    two.ok("unmap", mapped)
    assert two.error("bind-interdomain", 0, 1, server_port) == errno.ESRCH


def test_ports_of_a_forgotten_handle_close_with_its_last_holder(host):
    one, two, server_port, client_port = bound(host)
    holder = one.ok("fork")
    one.kill()
    assert (host.domain(1)["event_channels"]["used"], host.domain(1)["processes"]) == (1, 1)
    os.kill(holder, signal.SIGKILL)
    wait_for(lambda: host.domain(1)["event_channels"]["used"] == 0, "the end of the port")
    assert two.ok("notify", 0, client_port) == 0


LOCKER = """
import fcntl, os, sys
device = os.open(sys.argv[1], os.O_RDWR)
try:
    fcntl.flock(device, fcntl.LOCK_EX | fcntl.LOCK_NB)
    print("locked", flush=True)
except BlockingIOError:
    print("taken", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("device", ["evtchn", "gntdev", "gntalloc"])
def test_a_lock_of_a_device_is_of_its_domain(host, device):
    def lock(domid):
        process = host.spawn(domid, "/usr/bin/python3", "-c", LOCKER, f"/dev/xen/{device}", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return process, process.stdout.readline()

    holder, said = lock(1)
    assert said == "locked\n"
    assert lock(1)[1] == "taken\n" and lock(2)[1] == "locked\n"
    holder.communicate(timeout=TIMEOUT)
    assert lock(1)[1] == "locked\n"
