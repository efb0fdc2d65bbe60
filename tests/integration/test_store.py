# SPDX-License-Identifier: LGPL-2.1-or-later
"""The store thread (daemon/xen/store.h) against a simulated XenStore: order, permissions, quotas, stalls."""

import errno
import subprocess
import time

import pytest

from conftest import TIMEOUT, wait_for


HOME = "/local/domain/1/data/xenmsg"


def reader(host, domid):
    conversation = host.converse(domid, "check-store")
    assert conversation.first == "ok 0"
    return conversation


@pytest.fixture
def store(host):
    return reader(host, 1)


def test_what_is_written_is_read(store):
    assert store.ok("write", f"{HOME}/a/b/c", 1, -1, "some", "words") == 0
    assert store.ask("read", f"{HOME}/a/b/c") == "ok some words"
    assert store.ask("list", f"{HOME}/a") == "ok b"
    assert store.ok("remove", f"{HOME}/a") == 0
    assert store.error("read", f"{HOME}/a/b/c") == errno.ENOENT
    assert store.ok("remove", f"{HOME}/not/there") == 0


def test_a_leaf_is_read_by_its_reader_and_directories_by_nobody(host, store):
    others = {domid: reader(host, domid) for domid in (2, 3)}
    for allowed, readers in ((-1, {2, 3}), (2, {2}), (-2, set())):
        store.ok("write", f"{HOME}/to/2/leaf", 1, allowed, "x")
        for domid, other in others.items():
            read = other.ask("read", f"{HOME}/to/2/leaf")
            assert read == "ok x" if domid in readers else int(read.split()[1]) == errno.ENOENT, (allowed, domid, read)
        for directory in (HOME, f"{HOME}/to", f"{HOME}/to/2"):
            assert all(other.error("list", directory) == errno.ENOENT for other in others.values()), (allowed, directory)
        assert store.ok("remove", HOME) == 0


def test_nobody_else_ever_sees_a_private_leaf(host, store):
    """Neither while it is made, written again and removed, nor its directories."""
    three = reader(host, 3)
    assert three.ok("watch", "/local/domain") == 0
    for number in range(20):
        store.ok("write", f"{HOME}/to/2/leaf", 1, 2, number)
        if number % 5 == 4:
            store.ok("remove", f"{HOME}/to/2/leaf" if number % 2 else HOME)
    store.ok("write", f"{HOME}/mark", 1, -1, "x")
    assert three.ask("event") == "ok /local/domain"
    assert three.ask("event") == f"ok {HOME}/mark"


def test_leaves_of_one_transaction_appear_together(host, store):
    assert store.ok("pair", f"{HOME}/v/ring-ref", f"{HOME}/v/event-channel", 1, 2, 8, 9) == 0
    two = reader(host, 2)
    assert two.ask("read", f"{HOME}/v/ring-ref") == "ok 8"
    assert two.ask("read", f"{HOME}/v/event-channel") == "ok 9"
    # All or nothing: the second value is too long.
    assert store.error("pair", f"{HOME}/w/ring-ref", f"{HOME}/w/event-channel", 1, 2, 8, "9" * 3000) > 0
    assert store.error("read", f"{HOME}/w/ring-ref") == errno.ENOENT


def test_results_come_in_the_order_of_the_requests(store):
    for number in range(100):
        store.tell("write", f"{HOME}/n", 1, -2, number)
        store.tell("read", f"{HOME}/n")
    for number in range(100):
        assert store.answer() == "ok 0"
        assert store.answer() == f"ok {number}"


def test_a_watch_fires_once_when_set_and_at_each_change(host, store):
    assert store.ok("watch", HOME) == 0
    assert store.ask("event") == f"ok {HOME}"
    store.ok("write", f"{HOME}/x", 1, -2, "1")
    while (event := store.ask("event")) != f"ok {HOME}/x":
        assert event == f"ok {HOME}"  # the directory was made
    assert store.ok("watches") == 1
    assert store.ok("unwatch", HOME) == 0
    assert store.ok("watches") == 0
    store.ok("write", f"{HOME}/y", 1, -2, "1")
    assert store.ok("watch", f"{HOME}/z") == 0
    while (event := store.ask("event")) != f"ok {HOME}/z":
        assert event in (f"ok {HOME}", f"ok {HOME}/x")  # the same change may fire twice


def test_node_quota_is_an_error_of_its_own(host, store):
    for number in range(1200):
        line = store.ask("write", f"{HOME}/{number}", 1, -2, "x")
        if line.startswith("error"):
            break
    assert line.split()[1] in (str(errno.EDQUOT), str(errno.ENOSPC))
    assert store.ask("read", f"{HOME}/0") == "ok x"
    assert store.ok("remove", HOME) == 0
    assert store.ok("write", f"{HOME}/again", 1, -2, "x") == 0


def test_value_too_long_is_an_error(store):
    assert store.error("write", f"{HOME}/long", 1, -2, "x" * 5000) == errno.E2BIG


def test_watch_quota_is_an_error_and_the_others_go_on(host, store):
    for number in range(200):
        line = store.ask("watch", f"{HOME}/{number}")
        if line.startswith("error"):
            break
    assert line.startswith("error")
    store.ok("write", f"{HOME}/0", 1, -2, "x")
    assert store.ask("event").startswith(f"ok {HOME}/")


def test_what_is_asked_behind_a_refused_watch_is_done(store):
    """The refusal costs the connection, which is nobody else's concern."""
    for number in range(200):
        store.tell("async-watch", f"{HOME}/{number}")
    store.tell("write", f"{HOME}/0", 1, -2, "x")
    assert [store.answer() for _ in range(201)] == ["ok 0"] * 201
    assert store.ask("read", f"{HOME}/0") == "ok x"
    assert store.ok("watches") == 200


def test_transactions_of_many_at_once_all_succeed(host):
    """Conflicts and the quota of transactions are waited out."""
    writers = [reader(host, 1) for _ in range(12)]
    for round_number in range(10):
        for number, writer in enumerate(writers):
            writer.tell("write", f"{HOME}/shared/{number}", 1, -2, round_number)
        for writer in writers:
            assert writer.answer() == "ok 0"


def test_a_stalled_xenstore_delays_requests_and_nothing_else(host, store):
    assert store.ok("stalled") == 0
    host.fault("stall-store", 1, "on")
    store.ok("async", f"{HOME}/x")
    wait_for(lambda: store.ok("stalled") >= 100, "the stall to be noticed")
    assert store.ok("connected") == 1
    host.fault("stall-store", 1, "off")
    wait_for(lambda: store.ok("stalled") == 0, "the stall to end")
    assert store.ok("write", f"{HOME}/x", 1, -2, "y") == 0


def test_a_cancelled_request_calls_nobody_back(host, store):
    """Neither one that still waits for XenStore, nor one that XenStore has answered."""
    store.ok("write", f"{HOME}/x", 1, -2, "y")
    store.ok("cancelled", f"{HOME}/nothing")
    assert store.ask("read", f"{HOME}/x") == "ok y"
    host.fault("stall-store", 1, "on")
    for _ in range(10):
        store.ok("cancelled", f"{HOME}/nothing")
    host.fault("stall-store", 1, "off")
    assert store.ask("read", f"{HOME}/x") == "ok y"
    assert not store.answers_within(0.2)


def test_stopping_waits_for_a_slow_xenstore(host, store):
    """What others can see is brought in order: a second for an answer isn't silence."""
    for name in ("x", "y"):
        assert store.ok("write", f"{HOME}/{name}", 1, -2, "z") == 0
    host.fault("stall-store", 1, "on")
    for name in ("x", "y"):
        store.ok("async-remove", f"{HOME}/{name}")
    store.tell("quit")
    time.sleep(1)
    host.fault("stall-store", 1, "off")
    assert store.process.wait(TIMEOUT) == 0
    assert host.run(1, "xenstore-exists", f"{HOME}/y").returncode == 1


def test_stopping_does_not_wait_for_a_stalled_xenstore(host, store):
    host.fault("stall-store", 1, "on")
    store.ok("async", f"{HOME}/x")
    wait_for(lambda: store.ok("stalled") >= 10, "the stall to be noticed")
    store.ask("quit")
    assert store.process.wait(TIMEOUT) == 0
    host.fault("stall-store", 1, "off")


def test_watches_that_are_left_are_not_waited_for(host, store):
    """A guest's kernel waits for XenStore when one is taken back, and the end of a process for its kernel."""
    for number in range(30):
        assert store.ok("watch", f"{HOME}/{number}") == 0
    host.fault("stall-store", 1, "on")
    store.ok("leave-watches")
    for _ in range(100):
        assert store.ok("stalled") == 0
    store.tell("quit")
    assert store.process.wait(TIMEOUT) == 0
    host.fault("stall-store", 1, "off")


def test_nothing_but_an_answer_ends_the_wait_for_a_watch(host, store):
    """As on Linux, where store_free() gives up but the process can't end."""
    host.fault("stall-store", 1, "on")
    assert store.ok("async-watch", HOME) == 0
    wait_for(lambda: store.ok("stalled") >= 10, "the stall to be noticed")
    store.tell("quit")
    with pytest.raises(subprocess.TimeoutExpired):
        store.process.wait(4)
    host.fault("stall-store", 1, "off")
    assert store.process.wait(TIMEOUT) == 0


def test_what_others_see_is_done_before_stopping(host, store):
    store.ok("write", f"{HOME}/x", 1, -1, "y")
    for number in range(50):
        store.ok("async", f"{HOME}/{number}")
    store.tell("remove", f"{HOME}/x")
    store.process.stdin.close()
    assert store.process.wait(TIMEOUT) == 0
    assert reader(host, 1).error("read", f"{HOME}/x") == errno.ENOENT
