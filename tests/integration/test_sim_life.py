# SPDX-License-Identifier: LGPL-2.1-or-later
"""Processes of simulated domains that fork, exec and close what they don't know, and domains that shut down, reboot and crash.

What real Xen shows of these is in tests/conformance, too; here is what those cases can't ask.
"""

import errno
import os
import signal

from conftest import program, wait_for
from xen_ends import sharing, take

QUIET_MS = 200


def test_a_handle_that_came_over_exec_has_its_ports(host):
    one, two = host.xen(1), host.xen(2)
    fd = one.ok("evtchn-open-kept")
    two.ok("evtchn-open")
    port = one.ok("bind-unbound", 0, 2)
    other = two.ok("bind-interdomain", 0, 1, port)
    take(two, other)
    one.tell("exec")
    assert one.answer() == "ok 0"
    assert one.ok("evtchn-adopt", fd) == 0
    assert one.ok("notify", 0, port) == 0
    assert two.ok("poll", 0, 5000) == 1
    two.ok("notify", 0, other)
    assert one.ok("pending", 0) == port
    assert one.ok("bind-unbound", 0, 2) > port
    assert one.ok("unbind", 0, port) == 0
    assert host.domain(1)["event_channels"]["used"] == 1


def test_a_file_that_is_no_handle_is_not_adopted(host):
    assert host.xen(1).error("evtchn-adopt", 0) == errno.EINVAL


def test_who_closes_all_descriptors_keeps_its_pages(host):
    one, two, *_ = sharing(host)
    one.ok("close-all")
    assert two.ok("poll", 0, QUIET_MS) == 0
    assert two.ok("peek", 0, 22) == 1
    one.ok("poke", 0, 100, 42)
    assert two.ok("peek", 0, 100) == 42
    assert host.domain(1)["grants"]["used_pages"] == 1


def test_pages_end_with_the_last_process_that_has_them(host):
    one, two, *_ = sharing(host)
    child = one.ok("fork")
    one.kill()
    assert two.ok("poll", 0, QUIET_MS) == 0
    assert two.ok("peek", 0, 22) == 1
    os.kill(child, signal.SIGKILL)
    assert two.ok("poll", 0, 5000) == 1
    assert two.ok("peek", 0, 22) == 0


def test_a_childs_mapping_outlives_its_parents(host):
    one, two, *_ = sharing(host)
    child = two.ok("fork")
    two.kill()
    assert one.ok("poll", 0, QUIET_MS) == 0
    assert host.domain(2)["mapped_pages"] == 1
    os.kill(child, signal.SIGKILL)
    assert one.ok("poll", 0, 5000) == 1
    assert one.ok("peek", 0, 23) == 0
    assert host.domain(2)["mapped_pages"] == 0


def test_a_reboot_gives_the_name_another_number(host):
    inside = host.sleeper(1)
    old = host.domain(1)
    assert host.sim("shutdown", 1, "--reboot").stdout == "4\n"
    assert inside.wait() == -signal.SIGTERM
    new = host.domain(4)
    assert (new["name"], new["uuid"], new["type"], new["state"]) == (old["name"], old["uuid"], old["type"], "running")
    assert host.domain(1) is None
    assert host.run(4, "xenstore-read", "domid", "control/shutdown").stdout == "4\n\n"


def test_who_ignores_a_shutdown_is_killed(host):
    inside = host.converse(1, "/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done")
    assert inside.first == "ready"
    host.sim("shutdown", 1, "--timeout", 100)
    assert inside.process.wait() == -signal.SIGKILL
    assert host.domain(1) is None


def test_a_program_shuts_its_own_domain_down(host):
    host.run(1, program("xensim"), "shutdown", 1)
    wait_for(lambda: host.domain(1) is None, "the end of the domain")
    assert host.domain(2)["state"] == "running"


def test_who_destroys_does_not_wait_for_a_shutdown(host):
    inside = host.converse(1, "/bin/sh", "-c", "trap 'echo told' TERM; echo ready; while :; do sleep 0.1; done")
    shutdown = host.spawn(0, program("xensim"), "shutdown", 1, "--timeout", 600000)
    assert inside.answer() == "told"
    host.sim("destroy", 1)
    assert host.domain(1) is None
    assert shutdown.wait() == 1


def test_a_crashed_domain_that_is_kept_can_be_saved_by_nobody(host):
    domid = int(host.sim("create", "--on-crash", "preserve").stdout)
    inside = host.sleeper(domid)
    host.sim("crash", domid)
    assert host.domain(domid)["state"] == "crashed"
    assert inside.poll() is None
    for command in ("unpause", "suspend", "shutdown", "crash"):
        assert f"domain {domid} has crashed" in host.sim(command, domid, check=False).stderr
    host.sim("destroy", domid)
    assert inside.wait() == -signal.SIGKILL


def test_a_crash_destroys_a_domain_that_is_not_kept(host):
    inside = host.sleeper(1)
    host.sim("crash", 1)
    assert inside.wait() == -signal.SIGKILL
    assert host.domain(1) is None


def test_events_may_come_later_than_answers(host):
    one = host.xen(1)
    one.ok("xs-watch", "data/w"), one.ok("xs-events", 0)
    assert one.ok("xs-overtakes", "data/w", 20) == 0
    host.fault("late-events", 1, 1000)
    assert any(one.ok("xs-overtakes", "data/w", 1) for _ in range(20))  # beside others who looks may be late by a second, too
    host.fault("late-events", 1, 0)
    assert one.ok("xs-overtakes", "data/w", 20) == 0


def test_a_pause_ends_a_wait_only_if_it_is_told_to(host):
    one = host.xen(1)
    for on, answer in (("off", "ok 0"), ("on", f"error {errno.EINTR}")):
        host.fault("interrupt-pause", 1, on)
        one.ok("sleep", 1000)
        host.sim("pause", 1), host.sim("unpause", 1)
        assert one.ask("slept") == answer
