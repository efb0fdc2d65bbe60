# SPDX-License-Identifier: LGPL-2.1-or-later
"""A session outlives save and restore of a guest, whether it grants or maps: under another number, with stale and torn pages, and a daemon that
runs on before it hears of anything. Nothing is lost, nothing comes twice, the order is kept; programs see a pause."""

import contextlib
import ctypes
import errno
import os
import signal
import time

import pytest

from installed import seeds
from library import Connection, Posts
from messaging import LOST_SOON, PATIENCE, eventually, stopped
from test_resume import resumed, traffic

pytestmark = [pytest.mark.usefixtures("no_kernel_bug"), pytest.mark.unless(relayed="direct")]
PAIRS = pytest.mark.parametrize("saved, other", [(1, 0), (2, 1), (1, 2)], ids=["of domain 0", "of a guest", "that maps"])


def is_back(node, other, times):
    """The daemon knows its new number, and has resumed its session with the other one for so many times."""
    node.knows_its_number()
    resumed(other, node.domid, times)


@PAIRS
def test_a_guest_goes_on_under_its_new_number(nodes, saved, other):
    pair = nodes(other, saved)
    with traffic(pair[other], pair[saved]) as goes_on:
        for times in (1, 2):
            pair[saved].save_and_restore()
            is_back(pair[saved], pair[other], times)
            goes_on()


@pytest.mark.parametrize("seed", seeds(1, 5, each=2))
@PAIRS
def test_nothing_stale_or_torn_is_data_before_a_restore_is_known(nodes, saved, other, seed):
    """XenStore says nothing for a while, and the daemon finds what the peer had written some time before the save."""
    pair = nodes(other, saved)
    with traffic(pair[other], pair[saved]) as goes_on:
        pair[saved].suspend("--stale", 5 * seed, "--seed", seed, "--notice", 0)
        pair[saved].resume("--unaware", 700)
        is_back(pair[saved], pair[other], 1)
        goes_on()


@pytest.mark.parametrize("seed", seeds(1, 5, each=2))
@PAIRS
def test_a_guest_is_migrated_while_the_peer_writes(nodes, host, saved, other, seed):
    pair = nodes(other, saved)
    with traffic(pair[other], pair[saved]) as goes_on:
        moved = host.sim("migrate", saved, "--stale", 10 * seed, "--seed", seed, "--unaware", 300 * (seed % 2))
        pair[saved].domid = int(moved.stdout)
        is_back(pair[saved], pair[other], 1)
        goes_on()


@PAIRS
def test_a_guest_that_goes_on_after_its_save_goes_on(nodes, host, saved, other):
    """xl save -c, or a save that fails: nobody tells the daemon, but its clocks."""
    pair = nodes(other, saved)
    with traffic(pair[other], pair[saved]) as goes_on:
        for times in range(1, 4):
            host.sim("checkpoint", saved, "--stall", 100)
            goes_on()
            if saved > other:  # who maps has nothing to fear
                resumed(pair[other], saved, times)


@pytest.mark.parametrize("seed", seeds(1, 5, each=2))
def test_domain_0_gives_up_what_it_has_mapped_before_a_save(nodes, host, seed):
    """The other defence alone: the clocks show nothing, since the host's was set back meanwhile. It is in time unless domain 0 is too busy
    for it; and shorter than the second for which a port isn't unbound."""
    notice = min(int(200 * PATIENCE), 600)
    pair = nodes(0, 1)
    with traffic(pair[0], pair[1]) as goes_on:
        for times in (1, 2):
            options = ("--notice", notice, "--stale", 10 * seed, "--seed", seed, "--clock", 0, "--unaware", 300)
            pair[1].domid = int(host.sim("migrate", pair[1].domid, *options).stdout)
            is_back(pair[1], pair[0], times)
            goes_on()
        host.sim("checkpoint", pair[1].domid, "--notice", notice, "--clock", 0)
        resumed(pair[0], pair[1].domid, 3)
        goes_on()
    assert "about to be saved" in pair[0].log.read_text()


PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17
WALL = 0x40000000


@contextlib.contextmanager
def first_thread_stopped(pid):
    """The loop's, while that which talks to XenStore goes on."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    assert libc.ptrace(PTRACE_SEIZE, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    libc.ptrace(PTRACE_INTERRUPT, pid, None, None)
    os.waitpid(pid, WALL)
    yield
    libc.ptrace(PTRACE_DETACH, pid, None, None)


def test_what_xenstore_said_before_a_save_unbinds_no_port(zero, one, host):
    """The clocks show nothing. Domain 0 has let go as it does before a save, so a port has retired; the answer that this domain is what it
    was lies there while it is saved. On a machine so busy that a second has passed meanwhile, once more."""

    def requests():
        return host.domain(one.domid)["xenstore"]["requests"]

    def no_more():
        counts.append(requests())
        return counts[-1] == counts[-2]

    for _ in range(8):
        eventually(lambda: one.link_state(0) == "up", "they have a session")
        host.fault("stall-store", one.domid, "on")
        began = time.monotonic()
        zero.kill()
        eventually(lambda: one.link_state(0) != "up", "it has noticed")
        one.status()  # has had a turn
        with first_thread_stopped(one.pid):
            in_time = time.monotonic() - began < 0.9
            counts = [requests()]
            host.fault("stall-store", one.domid, "off")
            eventually(no_more, "XenStore has said all")
            os.kill(one.pid, signal.SIGSTOP)
        if in_time:
            break
        os.kill(one.pid, signal.SIGCONT)
        zero.start()
    one.domid = int(host.sim("migrate", one.domid, "--clock", 0, "--unaware", 300).stdout)
    one.knows_its_number()
    assert in_time


@pytest.mark.parametrize("name", ["dom1", "other"])
@pytest.mark.parametrize("saved", [1, 2], ids=["who sends", "who receives"])
def test_what_a_name_allowed_goes_on_before_names_are_told_again(nodes, host, saved, name):
    """Domain 0's daemon stands still meanwhile. Then it tells the name that is allowed, or another one."""
    every = nodes(0, 1, 2, start=False, config=LOST_SOON)
    zero, one, two = every.values()
    two.policy = "[rule]\nfrom = dom1\nto = *\naction = allow\n"
    for node in every.values():
        node.start(wait=False)
    for node in every.values():
        node.wait_ready()
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        address = f"{two.domid}:inbox"

        def outcome():
            results = []
            assert sender.post(address, b"x", results.append) == 0
            eventually(lambda: receiver.receive(10) and sender.wait(10) >= 0 and results, "it has an outcome")
            return results[0]

        eventually(lambda: outcome() == 0, "the names are told")
        with stopped(zero.pid):
            every[saved].save_and_restore()
            resumed(one, two.domid, 1)
            for _ in range(20):
                assert outcome() == 0
            results = []
            assert sender.post(address, b"x", results.append) == 0
            eventually(lambda: sender.wait(10) >= 0 and two.status()["endpoints"][0]["queued"], "it has arrived")
            if name != "dom1":
                host.sim("rename", one.domid, name)
        eventually(lambda: any(peer["name"] == name for peer in two.status()["peers"]), "the names are told again")
        if name == "dom1":
            assert outcome() == 0 and results == [0]
        else:  # nobody has taken it, but its daemon can't be sure
            eventually(lambda: sender.wait(10) >= 0 and results, "another name ends it")
            assert results == [-errno.ECONNRESET]


def test_programs_of_a_restored_guest_obey_new_rules_as_its_own(one, two):
    """Within a domain everything is allowed unless a rule forbids it: what its programs have opened isn't another domain's."""
    with Connection(one.socket) as sender, Connection(one.socket, binds="inbox") as receiver:
        results = []
        assert sender.post("self:inbox", b"x", results.append) == 0
        eventually(lambda: sender.wait(10) >= 0 and one.status()["endpoints"][0]["queued"], "it has arrived")
        one.save_and_restore()
        one.set_policy("[rule]\nfrom = 2\nto = *\naction = allow\n")
        message = receiver.receive()
        assert message.data == b"x"
        eventually(lambda: sender.wait(10) >= 0 and results, "it has an outcome")
        assert results == [0]


def test_both_guests_of_a_link_are_saved_at_once(one, two):
    """Neither is there any more by the number by which the other one knows it."""
    with traffic(one, two) as goes_on:
        for times in (1, 2):
            for node in (one, two):
                node.suspend()
            for node in (two, one):
                node.resume()
            for node, other in ((one, two), (two, one)):
                is_back(node, other, times)
            goes_on()


def test_a_restored_domain_sends_by_a_name_not_told_to_it_yet(zero, one, two):
    with Connection(one.socket) as sender, Connection(two.socket, binds="inbox") as receiver:
        posts = Posts(sender, receiver)
        eventually(lambda: any(peer["name"] == "dom2" for peer in one.status()["peers"]), "the names are told")
        posts.post("dom2")
        posts.are_delivered()
        with stopped(zero.pid), stopped(two.pid):
            one.save_and_restore()
            assert not any(peer["name"] == "dom2" for peer in one.status()["peers"])
            posts.post("dom2", "2")
        posts.are_delivered()
