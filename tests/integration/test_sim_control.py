# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the real libxenctrl says in simulated domains: domains as they are, ports as they are, and who may ask."""

import errno
import uuid

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


def test_a_ports_status_says_where_it_leads(host):
    one, two, dom0 = host.xen(1), host.xen(2), host.xen(0)
    one.ok("evtchn-open"), two.ok("evtchn-open")
    port = one.ok("bind-unbound", 0, 2)
    assert dom0.ask("port-status", 1, port) == "ok unbound 2"
    other = two.ok("bind-interdomain", 0, 1, port)
    assert dom0.ask("port-status", 1, port) == f"ok interdomain 2 {other}"
    assert dom0.ask("port-status", 2, other) == f"ok interdomain 1 {port}"
    two.ok("unbind", 0, other)
    assert dom0.ask("port-status", 1, port) == "ok unbound 2"
    assert dom0.ask("port-status", 2, other) == "ok closed"
    other = two.ok("bind-interdomain", 0, 1, port)
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
