# SPDX-License-Identifier: LGPL-2.1-or-later
"""Save and restore on xensim: what XEN-FACTS.md says of a suspended guest and of its peers."""

import os
import signal
import subprocess

import pytest

from conftest import TIMEOUT, program, row, wait_for
from xen_ends import sharing

NOTICE = int(20 * TIMEOUT)  # ms, in which the test sees it


def saved_and_restored(host, domid):
    host.sim("suspend", domid)
    return int(host.sim("resume", domid).stdout)


def test_the_domid_changes_and_the_home_is_made_anew(host):
    xen = host.xen(1)
    xen.ok("xs-write", "data/x", "1")
    before = host.domain(1)
    new = saved_and_restored(host, 1)
    assert new == 4 and host.domain(1) is None
    after = host.domain(new)
    assert (after["uuid"], after["name"], after["state"]) == (before["uuid"], before["name"], "running")
    # The same connection to XenStore goes on, in the new home.
    assert xen.ask("xs-read", "domid") == f"ok {new}"
    assert xen.ask("xs-read", "data/x").startswith("error")
    assert xen.ok("xs-write", "data/x", "2") == 0
    assert host.xen(0).ask("xs-read", f"/local/domain/{new}/data/x") == "ok 2"
    # So do new connections, by the path that the process was started with.
    assert host.xen(new).ask("xs-read", "domid") == f"ok {new}"


def test_a_suspended_domain_sleeps(host):
    xen = host.xen(1)
    host.sim("suspend", 1)
    assert host.domain(1)["state"] == "suspended"
    assert host.sim("pause", 1, check=False).returncode == 1
    xen.tell("xs-read", "name")
    assert not xen.answers_within(0.3)
    host.sim("resume", "dom1")
    assert xen.answer() == "ok dom1"


def test_the_peer_sees_the_old_home_vanish_and_no_more(host):
    one, two, server_port, client_port, memory, mapped, ref = sharing(host)
    one.ok("xs-write", "data/sign", "1")
    dom0 = host.xen(0)
    dom0.ok("xs-watch", "/local/domain/1")
    assert dom0.ask("xs-event", 5000) == "ok /local/domain/1"
    host.sim("suspend", 1, "--notice", 0)
    assert dom0.ask("xs-event", 5000) == "ok /local/domain/1"
    assert two.ok("poll", 0, 200) == 0
    assert two.ok("peek", mapped, 100) == 42
    assert two.ok("notify", 0, client_port) == 0
    # The old domid lives on as a zombie while its page is mapped.
    assert host.list()["zombies"] == 1
    host.sim("resume", 1)
    two.ok("unmap", mapped)
    assert host.list()["zombies"] == 0


def test_old_grants_stay_readable_but_lead_nowhere(host):
    one, two, server_port, client_port, memory, mapped, ref = sharing(host)
    new = saved_and_restored(host, 1)
    assert one.ok("peek", memory, 100) == 42
    assert one.ok("notify", 0, server_port) == 0
    assert two.ok("poll", 0, 200) == 0
    # gntalloc is harmless: a page granted before the save is taken back as ever.
    assert one.ok("unshare", memory) == 0
    assert two.ok("poll", 0, 200) == 0
    assert host.domain(new)["grants"]["used_pages"] == 0
    assert two.ask("map", new, ref, 1, 1).startswith("error")
    assert host.list()["kernel_log"] == []


def test_a_new_channel_works_after_the_restore(host):
    one, two, *_ = sharing(host)
    new = saved_and_restored(host, 1)
    handle = one.ok("evtchn-open")
    port = one.ok("bind-unbound", handle, 2)
    memory, ref = one.ok("share", 2, 1, 1)
    mapped = two.ok("map", new, ref, 1, 1)
    two.ok("bind-interdomain", 0, new, port)
    one.ok("poke", memory, 0, 9)
    assert two.ok("peek", mapped, 0) == 9


def test_a_pvh_mapper_reads_0xff(host):
    one, two, server_port, client_port, memory, mapped, ref = sharing(host)
    saved_and_restored(host, 2)
    wait_for(lambda: two.ok("peek", mapped, 100) == 0xff, "the blank page")
    assert one.ok("peek", memory, 100) == 42
    assert host.domain(1)["grants"]["mapped_by_others"] == 0
    # Unmapping works.
    assert two.ok("unmap", mapped) == 0
    assert one.ok("poll", 0, 200) == 0
    assert host.list()["kernel_log"] == []


def test_a_pv_mapper_dies_with_an_oops(host):
    pv = int(host.sim("create", "--type", "pv").stdout)
    one, two, *_ = sharing(host, 1, pv)
    saved_and_restored(host, pv)
    assert two.process.wait(timeout=TIMEOUT) == -signal.SIGKILL
    assert any("oops" in line for line in host.list()["kernel_log"])


def test_a_pv_granter_is_unharmed(host):
    pv = int(host.sim("create", "--type", "pv").stdout)
    one, two, server_port, client_port, memory, mapped, ref = sharing(host, pv, 1)
    saved_and_restored(host, pv)
    assert one.ok("peek", memory, 100) == 42
    assert host.list()["kernel_log"] == []


@pytest.mark.parametrize("words", ["evtchn-close 0", "unbind 0 {port}"])
def test_to_let_go_of_an_old_port_is_a_kernel_bug(host, words):
    one, two, server_port, *_ = sharing(host)
    saved_and_restored(host, 1)
    assert host.list()["kernel_log"] == []
    one.ok(words.format(port=server_port))
    assert "kernel BUG" in host.list()["kernel_log"][0]


def test_ending_with_an_old_handle_is_a_kernel_bug(host):
    one, *_ = sharing(host)
    saved_and_restored(host, 1)
    one.kill()
    wait_for(lambda: host.list()["kernel_log"], "the complaint")
    assert "kernel BUG" in host.list()["kernel_log"][0]


def test_an_old_handle_that_another_process_keeps_is_no_bug(host):
    one, *_ = sharing(host)
    saved_and_restored(host, 1)
    one.ok("fork")
    one.kill()
    wait_for(lambda: host.domain(4)["processes"] == 1, "the keeper alone")
    assert host.list()["kernel_log"] == []


def test_a_handle_without_ports_is_no_bug(host):
    one = host.xen(1)
    one.ok("evtchn-open")
    port = one.ok("bind-unbound", 0, 2)
    one.ok("unbind", 0, port)
    saved_and_restored(host, 1)
    one.ok("evtchn-close", 0)
    assert host.list()["kernel_log"] == []


def test_all_of_a_domains_numbers_lead_to_its_directory(host):
    """Also after more moves than the kernel follows symbolic links in one path."""
    numbers, xen = [1], host.xen(1)
    for _ in range(45):
        numbers.append(int(host.sim("migrate", numbers[-1]).stdout))
    directories = {os.stat(os.path.dirname(host.socket(number))).st_ino for number in numbers}
    assert len(directories) == 1
    assert xen.ask("xs-read", "domid") == f"ok {numbers[-1]}"
    assert host.run(numbers[-1], "/bin/cat", "/sys/hypervisor/guest_type").stdout == "PVH\n"


def test_a_suspended_domain_can_be_destroyed(host):
    xen = host.xen(1)
    host.sim("suspend", 1)
    host.sim("destroy", 1)
    assert xen.process.wait(timeout=TIMEOUT) == -signal.SIGKILL
    assert host.domain(1) is None


def test_no_thread_goes_on_with_a_page_that_its_domain_has_lost(host):
    """What each of four threads wrote last is in the image, and what they write after the restore isn't lost."""
    domid, one, zero = 1, host.xen(1), host.xen(0)
    for _ in range(10):
        memory, first, *_ = one.ok("share", 0, 4, 1)
        mapped = zero.ok("map", domid, first, 4, 1)
        one.ok("count", memory, 4)
        wait_for(lambda: all(zero.ok("peek", mapped, 4096 * i + 1) for i in range(4)), "they count")  # pylint: disable=cell-var-from-loop
        domid = saved_and_restored(host, domid)
        assert one.ok("counted", 4) == 0
        zero.ok("unmap", mapped)
        one.ok("unshare", memory)


PAGES = 32
STALE, APART = 600, 100  # milliseconds: for how long they are copied, and half of the time between two moments of that


def under_writes(host, granter, command, stale=0, seed=1):
    """Pages of a guest that domain 0 writes to without a pause, the time into the first and last word of each, while the guest is
    saved or migrated."""
    one, zero = host.xen(granter), host.xen(0)
    memory, first, *_ = one.ok("share", 0, PAGES, 1)
    mapped = zero.ok("map", granter, first, PAGES, 1)
    zero.ok("stamp", mapped)
    wait_for(lambda: all(one.ok("word", memory, 4096 * page) for page in range(PAGES)), "it writes")
    host.sim(command, granter, "--notice", 0, "--stale", stale, "--seed", seed)
    zero.ok("stamped")
    return one, memory


def begin(host, *words):
    """An administrator's command, which runs until the test waits for it."""
    return subprocess.Popen([program("xensim"), *map(str, words)], env=host.environment, stdout=subprocess.PIPE, text=True)


def kinds(xen, memory):
    """What a restored guest finds in each of these pages: as new as the newest of them, or older, or both."""
    times = [[xen.ok("word", memory, offset + end) for end in (0, 4092)] for offset in range(0, PAGES * 4096, 4096)]
    newest = max(max(pair) for pair in times)
    return ["torn" if abs(first - last) > APART else "old" if min(first, last) < newest - APART else "new" for first, last in times]


@pytest.mark.parametrize("command", ["suspend", "migrate"])
def test_pages_are_stale_and_torn_the_same_for_the_same_seed(host, command):
    """A page tells by the times in it, so of one that is just written, or after a pause of its writer on a busy machine, it can't be
    told: then the two are looked at again. Without the seed no two of them would ever be alike."""
    for _ in range(5):
        seen = []
        for domid in (1, 2):
            one, memory = under_writes(host, domid, command, STALE, 7)
            if command == "suspend":
                host.sim("resume", domid)
            seen.append(kinds(one, memory))
        different = sum(one != other for one, other in zip(*seen))
        if different <= 2:
            break
    assert different <= 2 and {"old", "torn", "new"} == set(seen[0]), seen


def test_without_the_option_the_image_is_of_one_moment(host):
    one, memory = under_writes(host, 1, "suspend")
    host.sim("resume", 1)
    assert set(kinds(one, memory)) == {"new"}


def test_what_is_written_after_the_save_arrives_neither_way(host):
    one, two, server_port, client_port, memory, mapped, ref = sharing(host)
    host.sim("suspend", 1)
    two.ok("poke", mapped, 100, 43)
    host.sim("resume", 1)
    assert one.ok("peek", memory, 100) == 42
    one.ok("poke", memory, 101, 7)
    assert two.ok("peek", mapped, 101) == 0 and two.ok("peek", mapped, 100) == 43


def test_a_process_reads_stale_data_before_any_watch_tells_it(host):
    watcher = host.xen(1)
    watcher.ok("xs-watch", "domid")
    assert watcher.ask("xs-event", 5000) == "ok domid"
    one, memory = under_writes(host, 1, "suspend", STALE, 7)
    host.sim("resume", 1, "--unaware", "60000")
    assert "old" in kinds(one, memory)
    assert watcher.ask("xs-event", 0) == "ok none"
    host.fault("stall-store", 0, "off")  # or the test would take that long
    assert watcher.ask("xs-event", 5000) == "ok domid"


def test_the_clocks_show_a_restore_unless_the_hosts_was_set_back(host):
    domid, one = 1, host.xen(1)
    for options, jump in (((), 200), (("--clock", "5000"), 5000), (("--clock", "0"), 0)):
        before = one.ok("clocks")
        host.sim("suspend", domid)
        domid = int(host.sim("resume", domid, *options).stdout)
        after = one.ok("clocks")
        # The coarse clocks tick, so a pair of readings may be apart by one.
        assert all(jump - 20 <= new - old <= jump + 20 for new, old in zip(after, before)), (options, before, after)


SHUTDOWN = "/local/domain/1/control/shutdown"


def watch_shutdown(host):
    """Domain 0, which is told when the toolstack wants to save domain 1."""
    zero = host.xen(0)
    zero.ok("xs-watch", SHUTDOWN)
    assert zero.ask("xs-event", 5000) == f"ok {SHUTDOWN}"
    return zero


def sees_suspend(zero):
    assert zero.ask("xs-event", 10000) == f"ok {SHUTDOWN}"
    return zero.ask("xs-read", SHUTDOWN) == "ok suspend"


def test_domain_0_is_told_before_a_guest_is_stopped_and_has_time(make_host):
    for command in ("suspend", "checkpoint", "migrate"):
        host = make_host()
        with row(command):
            one, zero = host.xen(1), watch_shutdown(host)
            saving = begin(host, command, 1, "--notice", NOTICE)
            assert sees_suspend(zero)
            assert one.ask("xs-read", "domid") == "ok 1"
            # The guest's kernel acknowledges it.
            assert zero.ask("xs-event", 10000) == f"ok {SHUTDOWN}"
            assert zero.ask("xs-read", SHUTDOWN) == "ok " and host.domain(1)["state"] == "running"
            assert saving.wait() == 0
            assert host.domain(4 if command == "migrate" else 1)["state"] == ("suspended" if command == "suspend" else "running")


def test_it_is_not_told_without_notice(host):
    zero = watch_shutdown(host)
    host.sim("checkpoint", 1, "--notice", 0)
    assert zero.ask("xs-event", 0) == "ok none"
    host.sim("suspend", 1, "--notice", 0)
    assert zero.ask("xs-event", 5000) == f"ok {SHUTDOWN}"
    assert zero.ask("xs-read", SHUTDOWN).startswith("error")


def test_what_the_peer_wrote_last_is_in_the_image(make_host):
    for command, then, seen in (("suspend", "stops", 2), ("migrate", "stops", 1), ("suspend", "unmaps", 2), ("migrate", "unmaps", 2),
                                ("migrate", "maps again", 2)):
        host = make_host()
        with row((command, then)):
            one, zero = host.xen(1), watch_shutdown(host)
            memory, ref, *_ = one.ok("share", 0, PAGES, 1)
            mapped = zero.ok("map", 1, ref, PAGES, 1)
            offsets = range(0, PAGES * 4096, 4096)
            for offset in offsets:
                zero.ok("poke", mapped, offset, 1)
            saving = begin(host, command, 1, "--stale", 30, "--notice", NOTICE)
            assert sees_suspend(zero)
            for offset in offsets:
                zero.ok("poke", mapped, offset, 2)
            if then != "stops":
                zero.ok("unmap", mapped)
            if then == "maps again":
                zero.ok("map", 1, ref, PAGES, 1)
            assert saving.wait() == 0
            if command == "suspend":
                host.sim("resume", 1)
            assert {one.ok("peek", memory, offset) for offset in offsets} == {seen}


@pytest.mark.parametrize("own, seen", [(False, 1), (True, 2)])
def test_an_index_goes_back_in_a_migration_if_unwritten(host, own, seen):
    """The first page of a vchan: at 0 the guest's consumer index, at 4 the producer index of its peer, domain 0."""
    one, zero, _, _, memory, mapped, _ = sharing(host, 1, 0)
    zero.ok("xs-watch", SHUTDOWN)
    assert zero.ask("xs-event", 5000) == f"ok {SHUTDOWN}"
    zero.ok("poke", mapped, 4, 1)
    saving = begin(host, "migrate", 1, "--stale", 30, "--notice", NOTICE)
    assert sees_suspend(zero)
    zero.ok("poke", mapped, 4, 2)
    assert one.ok("peek", memory, 4) == 2
    if own:
        one.ok("poke", memory, 0, 1)
    assert saving.wait() == 0
    assert one.ok("peek", memory, 4) == seen
    assert one.ok("peek", memory, 0) == own


def test_what_only_the_guest_writes_is_right_after_a_migration(host):
    """Its own pages, and the pages of a vchan's ring to its peer."""
    one, zero, _, _, memory, _, _ = sharing(host, 1, 0)
    zero.ok("xs-watch", SHUTDOWN)
    assert zero.ask("xs-event", 5000) == f"ok {SHUTDOWN}"
    ring, left, right = one.ok("share", 0, 2, 1)
    zero.ok("map", 1, left, 2, 1)
    alone, _ = one.ok("share", 0, 1, 1)
    read_only, ref = one.ok("share", 0, 1, 0)
    zero.ok("map", 1, ref, 1, 0)
    for offset, value in ((16, 12), (18, 12), (24, left % 256), (25, left // 256), (28, right % 256), (29, right // 256)):
        one.ok("poke", memory, offset, value)
    saving = begin(host, "migrate", 1, "--stale", 30, "--notice", NOTICE)
    assert sees_suspend(zero)
    for page, offset in ((ring, 4096), (alone, 0), (read_only, 0)):
        one.ok("poke", page, offset, 7)
    assert saving.wait() == 0
    assert [one.ok("peek", page, offset) for page, offset in ((ring, 4096), (alone, 0), (read_only, 0))] == [7, 7, 7]


def test_a_checkpoint_is_a_pause_and_a_step_of_the_clocks(host):
    """As is a save that fails. No watch fires, and channels go on."""
    one, two, server_port, client_port, memory, mapped, _ = sharing(host)
    one.ok("xs-watch", "domid")
    assert one.ask("xs-event", 5000) == "ok domid"
    before = one.ok("clocks")
    saving = begin(host, "checkpoint", 1, "--stall", NOTICE, "--clock", 5000)
    wait_for(lambda: host.domain(1)["state"] == "paused", "the stop")
    one.tell("clocks")
    two.ok("poke", mapped, 100, 43), two.ok("notify", 0, client_port)
    assert saving.wait() == 0
    assert all(4980 <= new - old <= 5020 for new, old in zip(map(int, one.answer().split()[1:]), before))
    assert one.ok("poll", 0, 5000) == 1 and one.ok("pending", 0) == server_port
    assert one.ok("peek", memory, 100) == 43
    one.ok("poke", memory, 101, 7)
    assert one.ask("xs-event", 0) == "ok none"
    assert host.list()["kernel_log"] == []
    # It can be saved after that, with what was written since.
    saved_and_restored(host, 1)
    assert one.ok("peek", memory, 101) == 7


def test_a_mapping_outlives_a_checkpoint_and_not_a_migration(host):
    _, two, _, _, _, mapped, _ = sharing(host)
    host.sim("checkpoint", 2)
    assert two.ok("peek", mapped, 100) == 42
    host.sim("migrate", 2)
    assert two.ok("peek", mapped, 100) == 0xff


def test_a_migration_has_both_domids_for_a_while(host):
    one, zero = host.xen(1), host.xen(0)
    zero.ok("xs-watch", "/local/domain")
    assert zero.ask("xs-event", 5000) == "ok /local/domain"
    new = int(host.sim("migrate", 1, "--notice", 0).stdout)
    assert new == 4 and one.ask("xs-read", "domid") == "ok 4" and host.domain(1) is None
    events = []
    while "/local/domain/1" not in events:
        events.append(zero.ask("xs-event", 5000).split()[1])
    assert "/local/domain/4/domid" in events
    assert one.ask("xs-read", "vm").startswith("ok /vm/")
    assert zero.ask("xs-read", one.ask("xs-read", "vm").split()[1] + "/name") == "ok dom1"


def test_a_domain_comes_back_by_its_number_if_nobody_maps_pages(host):
    one, two, server_port, _, memory, mapped, _ = sharing(host)
    one.ok("xs-watch", "domid")
    assert one.ask("xs-event", 5000) == "ok domid"
    one.ok("xs-write", "data/x", "1")
    host.sim("suspend", 1)
    assert "still map" in host.sim("resume", 1, "--same-domid", check=False).stderr
    two.ok("unmap", mapped)
    assert host.sim("resume", "dom1", "--same-domid").stdout == "1\n"
    assert one.ask("xs-event", 5000) == "ok domid"
    assert one.ask("xs-read", "domid") == "ok 1" and one.ask("xs-read", "data/x").startswith("error")
    assert one.ok("peek", memory, 100) == 42 and one.ok("notify", 0, server_port) == 0
    fresh, ref = one.ok("share", 2, 1, 1)
    one.ok("poke", fresh, 0, 9)
    assert two.ok("peek", two.ok("map", 1, ref, 1, 1), 0) == 9
    assert saved_and_restored(host, 1) == 4 and one.ok("peek", fresh, 0) == 9


def test_a_domain_that_is_being_saved_can_only_be_destroyed(host):
    xen = host.xen(1)
    saving = begin(host, "suspend", 1, "--notice", 60000)
    wait_for(lambda: host.sim("pause", 1, check=False).returncode == 1, "the beginning")
    for words in (("suspend", 1), ("migrate", 1), ("checkpoint", 1), ("unpause", 1)):
        assert "is being saved" in host.sim(*words, check=False).stderr
    host.sim("destroy", 1)
    assert saving.wait() == 1
    assert xen.process.wait(timeout=TIMEOUT) == -signal.SIGKILL


def test_a_host_stops_in_the_midst_of_a_save(host):
    host.xen(1)
    saving = begin(host, "suspend", 1, "--notice", 60000)
    wait_for(lambda: host.sim("pause", 1, check=False).returncode == 1, "the beginning")
    host.sim("stop")
    assert saving.wait() == 1


def test_a_bad_option_is_refused(host):
    for words in (("suspend", 1, "--stale"), ("suspend", 1, "--stale", "x"), ("suspend", 1, "--seeds", 1), ("resume", 1, "--clock", -1),
                  ("checkpoint", 1, "--seed", 1), ("migrate", 1, "--notice", "-")):
        done = host.sim(*words, check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, (words, done)
        assert host.domain(1)["state"] == "running", words
