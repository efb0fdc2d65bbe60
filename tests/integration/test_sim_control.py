# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the real libxenctrl says in simulated domains of domains and ports, and who may ask (tests/conformance asks more)."""

import errno
import signal
import uuid

from conftest import program, wait_for

SELF = 0x7FF0  # DOMID_SELF
UNRESTRICTED = "/sys/module/xen_privcmd/parameters/unrestricted"


def unrestrict(host, domid):
    """As a guest whose kernel was started with xen_privcmd.unrestricted=1."""
    assert host.run(domid, "/bin/sh", "-c", f"echo Y >{UNRESTRICTED}").returncode == 0


def test_domain_0_is_told_of_all_domains(host):
    dom0 = host.xen(0)
    assert dom0.ok("domains", 0, 10) == [0, 1, 2, 3]
    assert dom0.ok("domains", 0, 2) == [0, 1]
    assert dom0.ok("domains", 2, 10) == [2, 3]
    assert dom0.ok("domains", 4, 10) == []
    pv = int(host.sim("create", "--type", "pv").stdout)
    assert dom0.ok("domain-state", 1) == [1, 0, 0, 1]
    assert dom0.ok("domain-state", pv) == [pv, 0, 0, 0]
    assert str(uuid.UUID(dom0.ask("domain-uuid", 2).split()[1])) == host.domain(2)["uuid"]
    host.sim("destroy", 2)
    assert dom0.ok("domains", 0, 10) == [0, 1, 3, pv]


def test_it_is_told_who_is_paused_and_who_is_dead(host):
    dom0, two = host.xen(0), host.xen(2)
    host.sim("pause", 1)
    assert dom0.ok("domain-state", 1) == [1, 0, 1, 1]
    host.sim("unpause", 1)
    assert dom0.ok("domain-state", 1) == [1, 0, 0, 1]
    _, ref = two.ok("share", 3, 1, 1)
    three = host.xen(3)
    mapped = three.ok("map", 2, ref, 1, 1)
    host.sim("destroy", 2)
    assert dom0.ok("domain-state", 2) == [2, 1, 1, 1]
    three.ok("unmap", mapped)
    assert dom0.ok("domain-state", 2)[0] == 3


def test_a_restored_domain_has_its_new_number(host):
    dom0 = host.xen(0)
    host.sim("suspend", 2)
    assert dom0.ok("domains", 1, 10) == [1, 3]
    new = int(host.sim("resume", 2).stdout)
    assert dom0.ok("domains", 1, 10) == [1, 3, new]


def test_a_port_leads_nowhere_once_its_peer_is_destroyed(host):
    one, two, dom0 = host.xen(1), host.xen(2), host.xen(0)
    one.ok("evtchn-open"), two.ok("evtchn-open")
    port = one.ok("bind-unbound", 0, 2)
    assert dom0.ask("port-status", 1, port) == "ok unbound 2"
    other = two.ok("bind-interdomain", 0, 1, port)
    assert dom0.ask("port-status", 1, port) == f"ok interdomain 2 {other}"
    host.sim("destroy", 2)
    assert dom0.ask("port-status", 1, port) == "ok unbound 2"
    assert dom0.error("port-status", 2, other) == errno.ESRCH


def test_a_guest_asks_nothing_unless_its_kernel_lets_it(host):
    one, two = host.xen(1), host.xen(2)
    one.ok("evtchn-open")
    port = one.ok("bind-unbound", 0, 2)
    for question in (("domains", 0, 10), ("domain-single", 1), ("port-status", SELF, port)):
        assert one.error(*question) == errno.EPERM
    unrestrict(host, 1)
    unrestrict(host, 2)
    assert one.ask("port-status", SELF, port) == "ok unbound 2"
    # Now Xen answers: nothing about others, except that they are there.
    assert one.error("domains", 0, 10) == errno.EPERM
    assert one.error("domain-single", 1) == errno.EPERM
    assert two.error("port-status", 1, port) == errno.EPERM
    assert two.error("port-status", 1, 65535) == errno.EINVAL
    assert two.error("port-status", 9, port) == errno.ESRCH


# ---- what a toolstack does by hypercalls ----

POWER_OFF, REBOOT, SUSPEND, CRASH = range(4)


def test_pauses_are_counted_and_bounded_and_xensim_ends_all(host):
    dom0 = host.xen(0)
    for _ in range(255):
        dom0.ok("pause-domain", 1)
    assert dom0.error("pause-domain", 1) == errno.ERANGE
    host.sim("unpause", 1)
    assert dom0.ok("domain-state", 1) == [1, 0, 0, 1]


def test_xen_may_refuse_what_the_toolstack_wants(host):
    dom0 = host.xen(0)
    host.fault("refuse", 0, "destroy", 1, "EIO")
    assert dom0.error("destroy-domain", 1) == errno.EIO and host.domain(1)["state"] == "running"
    dom0.ok("destroy-domain", 1)


def test_a_checkpoint_does_not_end_a_pause(host):
    dom0 = host.xen(0)
    dom0.ok("pause-domain", 1)
    host.sim("checkpoint", 1)
    assert host.domain(1)["state"] == "paused"
    dom0.ok("unpause-domain", 1)
    assert host.domain(1)["state"] == "running"


def test_xen_destroys_a_domain_and_leaves_its_home(host):
    dom0, two, inside = host.xen(0), host.xen(2), host.sleeper(1)
    one = host.xen(1)
    _, ref = one.ok("share", 2, 1, 1)
    mapped = two.ok("map", 1, ref, 1, 1)
    dom0.ok("destroy-domain", 1)
    assert inside.wait() == -signal.SIGKILL
    assert host.run(0, "xenstore-read", "/local/domain/1/domid").stdout == "1\n"
    assert dom0.ok("domain-state", 1) == [1, 1, 1, 1]
    dom0.ok("destroy-domain", 1)
    two.ok("unmap", mapped)
    assert dom0.error("destroy-domain", 1) == errno.ESRCH


def test_who_destroys_by_xen_ends_what_is_under_way(host):
    dom0 = host.xen(0)
    inside = host.converse(1, "/bin/sh", "-c", "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done")
    shutdown = host.spawn(0, program("xensim"), "shutdown", 1, "--timeout", 600000)
    assert inside.answer() == "told"
    dom0.ok("destroy-domain", 1)
    assert shutdown.wait() == 1 and host.domain(1) is None
    save = host.spawn(0, program("xensim"), "suspend", 2, "--notice", 60000)
    wait_for(lambda: host.run(0, "xenstore-read", "/local/domain/2/control/shutdown").stdout == "suspend\n", "the notice")
    dom0.ok("destroy-domain", 2)
    assert save.wait() == 1 and host.domain(2) is None


def test_a_domain_that_is_shut_down_from_outside_stops(host):
    dom0, inside = host.xen(0), host.sleeper(1)
    kept = int(host.sim("create", "--on-crash", "preserve").stdout)
    dom0.ok("shut-domain-down", kept, CRASH)
    assert host.domain(kept)["state"] == "crashed" and dom0.ok("domain-end", kept) == [0, 1, CRASH]
    dom0.ok("shut-domain-down", 1, POWER_OFF)
    assert inside.wait() == -signal.SIGKILL
    wait_for(lambda: host.domain(1) is None, "the end of the domain")
    dom0.ok("shut-domain-down", 2, SUSPEND)
    assert dom0.ok("domain-end", 2) == [0, 1, SUSPEND]
    dom0.ok("shut-domain-down", 3, REBOOT)
    wait_for(lambda: host.domain(kept + 1), "the domain that takes its place")
    assert host.domain(kept + 1)["name"] == "dom3"


def test_domain_0_and_who_asks_are_spared(host):
    dom0, one = host.xen(0), host.xen(1)
    unrestrict(host, 1)
    for call in (("pause-domain",), ("destroy-domain",), ("shut-domain-down", CRASH)):
        assert dom0.error(call[0], 0, *call[1:]) == errno.EINVAL
        assert dom0.error(call[0], 77, *call[1:]) == errno.ESRCH
        assert one.error(call[0], 2, *call[1:]) == errno.EPERM
        assert one.error(call[0], 77, *call[1:]) == errno.ESRCH
    assert [domain["state"] for domain in host.list()["domains"]] == ["running"] * 4


# ---- what a guest's kernel does when XenStore tells it ----


def told(host, domid, value):
    assert host.run(0, "xenstore-write", f"/local/domain/{domid}/control/shutdown", value).returncode == 0


def test_a_guest_obeys_the_node_of_its_toolstack(host):
    inside = host.converse(1, "/bin/sh", "-c", "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done")
    for value in ("", "nonsense", "suspend"):
        told(host, 1, value)
    told(host, (1 << 32) + 1, "poweroff")  # no domain's
    assert host.domain(1)["state"] == "running"
    told(host, 1, "poweroff")
    assert inside.answer() == "told"
    wait_for(lambda: host.domain(1) is None, "the end of the domain")
    told(host, 2, "reboot")
    wait_for(lambda: host.domain(4), "the domain that takes its place")
    assert host.domain(4)["name"] == "dom2" and host.domain(2) is None
    assert host.run(4, "xenstore-read", "control/shutdown").stdout == "\n"


def test_its_kernel_acknowledges_that(host):
    watching = host.converse(0, "xenstore-watch", "-n", "3", "/local/domain/1/control/shutdown")
    inside = host.converse(1, "/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    told(host, 1, "halt")
    wait_for(lambda: host.run(0, "xenstore-read", "/local/domain/1/control/shutdown").stdout == "\n", "the acknowledgement")
    assert inside.process.wait() == -signal.SIGKILL and watching.process.wait() == 0


def test_who_is_paused_obeys_when_it_goes_on(host):
    inside = host.sleeper(1)
    host.sim("pause", 1)
    told(host, 1, "poweroff")
    assert host.run(0, "xenstore-read", "/local/domain/1/control/shutdown").stdout == "poweroff\n"
    host.sim("unpause", 1)
    assert inside.wait() == -signal.SIGTERM
    wait_for(lambda: host.domain(1) is None, "the end of the domain")


def test_a_name_in_xenstore_is_the_domains(host):
    host.run(0, "xenstore-write", "/local/domain/1/name", "other")
    assert host.domain(1)["name"] == "other"
    host.sim("pause", "other")
    for bad in ("", "77", "a b"):
        host.run(0, "xenstore-write", "/local/domain/1/name", bad)
        assert host.domain(1)["name"] == "other"
