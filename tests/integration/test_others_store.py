# SPDX-License-Identifier: LGPL-2.1-or-later
"""What others make the daemon do in XenStore, and write into its log: it costs them, and nobody else waits for it."""

import errno
import json
import os
import re
import uuid

import pytest

from frames import RESET, open_frame, reset_frame
from messaging import PATIENCE, deliver, eventually, open_to_others, works
from protocol import Program
from users import User


def hand(host, domid):
    """Writes to XenStore in the name of a domain without a daemon."""
    talk = host.converse(domid, "check-store")
    assert talk.first == "ok 0"

    def write(leaf, value, reader=-1):
        assert talk.ok("write", f"/local/domain/{domid}/data/xenmsg/{leaf}", domid, reader, value) == 0
    return write


# ---- the log ----

@pytest.mark.unless(relayed="zero", strict="zero")
def test_a_guest_that_comes_and_goes_logs_little_and_hides_none(host, nodes, one):
    assert one.peers() == []  # from now on it follows all
    write = hand(host, 2)
    last = None
    for _ in range(100):
        last = str(uuid.uuid4())
        write("presence", f"1%20{last}")
    eventually(lambda: last in one.peers(), "the last presence is seen")
    nodes(3)
    lines = one.log.read_text().splitlines()
    assert 0 < len([line for line in lines if "domain 2: its daemon is" in line]) <= 10
    assert any("domain 3: its daemon is there" in line for line in lines)
    for i in range(40):
        write("presence", f"nonsense{i}")
    eventually(lambda: last not in one.peers(), "nonsense is taken for absent")
    assert 0 < one.log.read_text().count("domain 2 has written a bad presence") <= 10


# ---- who isn't there ----

class Asker(Program):
    def status(self):
        return json.loads(self.query("status"))


def numbers(first, count):
    return range(first, first + count)


def opens(domids):
    return b"".join(open_frame(2 * i, f"{domid}:inbox") for i, domid in enumerate(domids))


def refusals(program, count):
    """The errors of so many channels, which then are free again."""
    resets = [program.expect(RESET) for _ in range(count)]
    program.send_bytes(b"".join(reset_frame(reset.channel, 0) for reset in resets))
    return [reset.u32() for reset in resets]


def looked_up(record):
    """The domains that domain 1 has asked XenStore about, in the order in which it was answered."""
    return [int(domid) for domid in re.findall(r"^\S+\td1\tREAD\t/local/domain/(\d+)/", record.read_text(), re.M)]


def memory(node):
    with open(f"/proc/{node.pid}/status", encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("VmRSS:")).split()[1])


@pytest.mark.slow
def test_what_is_not_there_leaves_nothing_behind(one, two):
    works(one, two)
    before = memory(one)
    with Program(one.socket) as program:
        for first in range(1000, 9000, 200):
            program.send_bytes(opens(numbers(first, 200)))
            assert refusals(program, 200) == [errno.EHOSTDOWN] * 200
        status = one.status()
        assert [link["peer"]["domid"] for link in status["links"]] == [2]
        assert [account["id"] for account in status["accounts"] if account["kind"] == "peer"] == [2]
        assert [peer["domid"] for peer in status["peers"]] == [2]
        assert status["failures"] == [] and status["store"]["lookups"] == 0
        assert all(not account["queued_bytes"]["used"] for account in status["accounts"] if account["kind"] == "uid")
    print(f"8000 opens to nobody: {before} -> {memory(one)} KiB")
    works(one, two)


def test_a_domain_is_found_though_it_was_missing_a_moment_ago(nodes, one):
    with Program(one.socket) as program:
        for _ in range(3):
            program.send_bytes(opens([2]))
            assert refusals(program, 1) == [errno.EHOSTDOWN]
    two = nodes(2)[2]
    deliver(one, two)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be several users")
def test_look_ups_are_charged_and_wait_in_the_line_of_who_asks(host, nodes, tmp_path):
    """One user asks for more than XenStore answers at once; another waits for his own look-ups, and not for those; nor if all is read anew."""
    zero, one = nodes(0, 1, config="[links]\nsetup-timeout = 60s\n").values()
    open_to_others(one)
    eventually(lambda: one.link_state(0) == "up", "domain 0 tells of the others")
    crowd = 500

    def flood(path, tell, stopped):
        with Program(path, timeout=20 * PATIENCE) as program:
            program.send_bytes(opens(numbers(1000, crowd)))
            tell(sorted(set(refusals(program, crowd))))
            stopped(None)

    def waiting():
        return root.status()["store"]["lookups"]

    with Asker(one.socket) as root:
        host.fault("stall-store", 1, "on")
        greedy = User(1000, one, flood)
        try:
            eventually(lambda: waiting() == crowd, "its look-ups wait")
            used, = (account["queued_bytes"]["used"] for account in root.status()["accounts"]
                     if (account["kind"], account["id"]) == ("uid", 1000))
            assert used >= crowd * 4096
            root.send_bytes(opens(numbers(3000, 8)))
            eventually(lambda: waiting() == crowd + 8, "and ours")
            zero.kill()
            eventually(lambda: one.link_state(0) != "up", "it tells no more")
            host.sim("record", tmp_path / "record")
            host.fault("stall-store", 1, "off")
            assert refusals(root, 8) == [errno.EHOSTDOWN] * 8
            assert greedy.next() == [errno.EHOSTDOWN]
        finally:
            host.fault("stall-store", 1, "off")
            greedy.end()
        order = looked_up(tmp_path / "record")
        last = max(at for at, domid in enumerate(order) if domid in numbers(3000, 8))
        before = len(set(order[:last]) & set(numbers(1000, crowd)))
        print(f"{before} of another user's {crowd} look-ups come before the last of ours")
        assert before < crowd * 3 / 4
        assert waiting() == 0
