# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim's grants: who may map what, the limits, and when a page is free again (tests/conformance asks more)."""

import errno

from conftest import wait_for
from xen_ends import sharing


def test_pages_are_zero_at_first(host):
    one = host.xen(1)
    memory, _ = one.ok("share", 2, 1, 1)
    assert all(one.ok("peek", memory, offset) == 0 for offset in (0, 1, 2048, 4095))


def test_no_other_domain_maps_it(host):
    one, three, dom0 = host.xen(1), host.xen(3), host.xen(0)
    _, ref = one.ok("share", 2, 1, 1)
    # Not even domain 0: Xen lets only the granted domid map.
    assert three.error("map", 1, ref, 1, 1) == errno.EINVAL
    assert dom0.error("map", 1, ref, 1, 1) == errno.EINVAL
    assert one.error("map", 1, ref, 1, 1) == errno.EINVAL


def test_bad_references_and_domains_are_refused(host):
    one, two = host.xen(1), host.xen(2)
    _, ref = one.ok("share", 2, 1, 1)
    assert two.error("map", 1, 0, 1, 1) == two.error("map", 0x7ff0, ref, 1, 1) == errno.EINVAL
    # One bad reference spoils the whole mapping, and nothing of it stays.
    assert two.error("map", 1, ref, 2, 1) == errno.EINVAL
    assert host.domain(1)["grants"]["mapped_by_others"] == 0


def test_a_read_only_grant_is_mapped_for_reading_only(host):
    one, two = host.xen(1), host.xen(2)
    memory, ref = one.ok("share", 2, 1, 0)
    assert two.error("map", 1, ref, 1, 1) == errno.EINVAL
    mapped = two.ok("map", 1, ref, 1, 0)
    one.ok("poke", memory, 0, 5)
    assert two.ok("peek", mapped, 0) == 5


def test_many_pages_are_one_contiguous_range(host):
    one, two = host.xen(1), host.xen(2)
    memory, *refs = one.ok("share", 2, 700, 1)
    assert len(refs) == 700 and min(refs) > 8
    mapped = two.ok("map", 1, refs[0], 700, 1)
    for page in (0, 127, 128, 129, 255, 256, 699):
        one.ok("poke", memory, page * 4096, page % 251)
    for page in (0, 127, 128, 129, 255, 256, 699):
        assert two.ok("peek", mapped, page * 4096) == page % 251
    two.ok("poke", mapped, 699 * 4096 + 7, 99)
    assert one.ok("peek", memory, 699 * 4096 + 7) == 99
    assert two.ok("unmap", mapped) == 0
    assert host.domain(2)["mapped_pages"] == 0


def test_pages_of_several_shares_map_as_one_range(host):
    one, two = host.xen(1), host.xen(2)
    memories = [one.ok("share", 2, 1, 1) for _ in range(130)]
    first = memories[0][1]
    assert [ref for _, ref in memories] == list(range(first, first + 130))
    mapped = two.ok("map", 1, first, 130, 1)
    for i in (0, 64, 127, 128, 129):
        one.ok("poke", memories[i][0], 0, i)
        assert two.ok("peek", mapped, i * 4096) == i


def test_the_limit_is_counted_in_pages_and_ends_in_enospc(host):
    one = host.xen(1)
    memory, *_ = one.ok("share", 2, 1000, 1)
    assert one.error("share", 2, 25, 1) == errno.ENOSPC
    one.ok("share", 2, 24, 1)
    assert host.domain(1)["grants"]["used_pages"] == 1024
    assert one.error("share", 2, 1, 1) == errno.ENOSPC
    # Domains have a limit each.
    host.xen(2).ok("share", 1, 1024, 1)
    # Closing the handles frees nothing, the end of the mapping does.
    one.ok("reopen")
    assert one.error("share", 2, 1, 1) == errno.ENOSPC
    assert one.ok("unshare", memory) == 0
    one.ok("share", 2, 1000, 1)


def test_root_changes_the_limit_where_linux_has_it(host):
    host.fault("grant-limit", 1, 10)
    one = host.xen(1)
    assert one.ask("file", "/sys/module/xen_gntalloc/parameters/limit") == "ok 10"
    assert one.error("share", 2, 11, 1) == errno.ENOSPC
    done = host.run(1, "/bin/sh", "-c", "echo 2000 > /sys/module/xen_gntalloc/parameters/limit")
    assert done.returncode == 0, done.stderr
    one.ok("share", 2, 2000, 1)


def test_a_plain_munmap_frees_the_grant_with_its_last_page(host):
    one = host.xen(1)
    memory, *_ = one.ok("share", 2, 4, 1)
    one.ok("munmap", memory, 1, 2)
    assert host.domain(1)["grants"]["used_pages"] == 4
    one.ok("munmap", memory, 0, 1)
    assert host.domain(1)["grants"]["used_pages"] == 4
    one.ok("munmap", memory, 3, 1)
    assert host.domain(1)["grants"]["used_pages"] == 0


def test_gntdev_keeps_what_munmap_unmaps_until_it_closes(host):
    one, two = host.xen(1), host.xen(2)
    _, *refs = one.ok("share", 2, 2, 1)
    mapped = two.ok("map", 1, refs[0], 2, 1)
    two.ok("munmap", mapped, 0, 2)
    assert two.error("unmap", mapped) == errno.EINVAL
    assert host.domain(2)["mapped_pages"] == 2
    two.ok("reopen")
    assert host.domain(2)["mapped_pages"] == 0


def test_a_page_outlives_its_granter_for_who_maps_it(host):
    one, two = host.xen(1), host.xen(2)
    memory, ref = one.ok("share", 2, 1, 1)
    one.ok("poke", memory, 100, 42)
    mapped = two.ok("map", 1, ref, 1, 1)
    one.ok("unshare", memory)
    assert host.domain(1)["grants"]["used_pages"] == 0
    assert two.ok("peek", mapped, 100) == 42
    two.ok("unmap", mapped)
    assert two.error("map", 1, ref, 1, 1) == errno.EINVAL


def test_an_unmapped_page_clears_its_byte_and_notifies(host):
    one, two, server_port, client_port, memory, mapped, _ = sharing(host)
    two.ok("unmap", mapped)
    assert one.ok("pending", 0) == server_port
    assert [one.ok("peek", memory, i) for i in (22, 23)] == [1, 0]


def test_an_unshared_page_clears_its_byte_and_notifies(host):
    one, two, server_port, client_port, memory, mapped, _ = sharing(host)
    one.ok("unshare", memory)
    assert two.ok("pending", 0) == client_port
    assert [two.ok("peek", mapped, i) for i in (22, 23)] == [0, 1]


def test_a_killed_process_leaves_the_same_notice(host):
    one, two, server_port, client_port, memory, mapped, _ = sharing(host)
    one.kill()
    assert two.ok("pending", 0) == client_port
    assert [two.ok("peek", mapped, i) for i in (22, 23)] == [0, 1]


def test_a_notification_keeps_its_port_open(host):
    one, two, server_port, client_port, memory, mapped, _ = sharing(host)
    one.ok("evtchn-close", 0)
    assert host.domain(1)["event_channels"]["used"] == 1
    one.ok("unshare", memory)
    assert two.ok("pending", 0) == client_port
    assert host.domain(1)["event_channels"]["used"] == 0


def test_a_notification_needs_a_bound_port(host):
    one = host.xen(1)
    assert one.error("share-notify", 2, 0, 700) == errno.EINVAL
    assert host.domain(1)["grants"]["used_pages"] == 0


def test_refused_grants_and_mappings_fail_as_many_times_as_told(host):
    one, two = host.xen(1), host.xen(2)
    host.fault("refuse-grant", 1, 1)
    assert one.error("share", 2, 1, 1) == errno.ENOSPC
    _, ref = one.ok("share", 2, 1, 1)
    host.fault("refuse-map", 2, "on")
    assert two.error("map", 1, ref, 1, 1) == errno.EINVAL
    assert two.error("map", 1, ref, 1, 1) == errno.EINVAL
    host.fault("refuse-map", 2, "off")
    two.ok("map", 1, ref, 1, 1)


def test_mapped_pages_of_a_destroyed_domain_map_again(host):
    one, two = host.xen(1), host.xen(2)
    memory, *refs = one.ok("share", 2, 2, 1)
    one.ok("poke", memory, 0, 7)
    mapped = two.ok("map", 1, refs[0], 1, 1)
    host.sim("destroy", 1)
    again = two.ok("map", 1, refs[0], 1, 1)
    assert two.ok("peek", again, 0) == 7
    # A page that nobody mapped has gone with the domain.
    assert two.error("map", 1, refs[1], 1, 1) == errno.EINVAL
    two.ok("unmap", mapped)
    assert host.list()["zombies"] == 1
    two.ok("unmap", again)
    assert host.list()["zombies"] == 0
    assert two.error("map", 1, refs[0], 1, 1) == errno.EINVAL


def test_a_process_that_ends_frees_all(host):
    one, two = host.xen(1), host.xen(2)
    _, *refs = one.ok("share", 2, 8, 1)
    two.ok("map", 1, refs[0], 8, 1)
    for side in (one, two):
        side.process.stdin.close()
        side.process.wait()
    wait_for(lambda: host.domain(1)["grants"] == {"used_pages": 0, "entries": 0, "limit_pages": 1024, "mapped_by_others": 0},
             "the end of all grants")
