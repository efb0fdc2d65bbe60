# SPDX-License-Identifier: LGPL-2.1-or-later
"""Topics: one publishes and waits for nobody, many subscribe, and each is told in its place what it has missed."""

import ctypes
import errno
import json
import os
import signal
import subprocess

import pytest

from library import AT_ONCE, COUNT_LISTENERS, ENDED, KEEP_OLDEST, KEPT, MISSED, RETAIN, SUBSCRIBED, TOPIC, USUAL_MS, WAITING, Connection, KeyOptions
from messaging import EXIT_DENIED, EXIT_TIMEOUT, EXIT_USAGE, FAST, PATIENCE, deliver, eventually, open_to_others, stopped, tool
from test_status import validator  # the fixture `valid`  # noqa: F401  pylint: disable=unused-import
from test_policy import NOBODY
from test_top import terminals  # the fixture `terminal`  # noqa: F401  pylint: disable=unused-import

SHARED = 4096


def topic(node, name="news", flags=0):
    conn = Connection(node.socket)
    assert conn.bind(name, TOPIC | flags) == 0
    return conn


def subscriber(node, address="1:news", first=SUBSCRIBED, queue=0, flags=0, **values):
    """A connection that has subscribed, and was told so, with these values."""
    conn = Connection(node.socket)
    assert conn.subscribe(address, queue, flags) == 0
    expect(conn, first, **values)
    return conn


def receive(conn):
    message = conn.receive(int(20000 * PATIENCE))
    assert not isinstance(message, int), message
    return message


def expect(conn, kind, **values):
    notice = receive(conn).notice
    assert notice and notice.kind == kind, notice
    assert all(getattr(notice, name) == value for name, value in values.items()), notice
    return notice


def until(conn, kind):
    """What comes until this notice."""
    while True:
        message = receive(conn)
        if message.notice and message.notice.kind == kind:
            return message.notice


def publish(conn, *payloads, name="news"):
    for payload in payloads:
        assert conn.send(f"self:{name}", payload) == 0


def publish_many(conn, count, size, first=0):
    """As fast as it goes: numbers, each followed by as many bytes as make up the size."""
    outcomes = []
    for number in range(first, first + count):
        data = b"%d " % number
        while (result := conn.post("self:news", data.ljust(size, b"."), outcomes.append)) == -errno.EAGAIN:
            assert conn.wait(int(20000 * PATIENCE)) >= 0
        assert result == 0
    while len(outcomes) < count:
        assert conn.wait(int(20000 * PATIENCE)) > 0, "the publisher waits for somebody"
    assert set(outcomes) == {0}


def publish_to_who_keeps_up(publisher, *quick):
    """2000 messages, more than a log has, of which these get all."""
    for first in range(0, 2000, 50):
        publish_many(publisher, 50, 8000, first)
        for conn in quick:
            assert [int(receive(conn).data.split()[0]) for _ in range(50)] == list(range(first, first + 50))


def account(conn, count):
    """Receives until all messages have come or are known to be missing: in order, none twice, and none lost in silence."""
    position = missed = 0
    while position < count:
        message = receive(conn)
        if message.notice:
            assert message.notice.kind == MISSED and not message.notice.unknown, message.notice
            missed += message.notice.count
            position += message.notice.count
        else:
            assert int(message.data.split()[0]) == position
            position += 1
    assert position == count
    return missed


# ---- what comes ----

def test_all_subscribers_get_everything_in_order(here, there, memory):
    publisher = topic(here)
    subscribers = [subscriber(there) for _ in range(5)]
    publish_many(publisher, 300, 40)
    for conn in subscribers:
        assert account(conn, 300) == 0
    message = None
    publish(publisher, b"hello")
    for conn in subscribers:
        message = receive(conn)
        assert (message.data, message.endpoint) == (b"hello", "1:news")
        assert (message.domid, message.uid, message.pid) == (1, os.getuid(), os.getpid())


@pytest.mark.unless(small="limits")
def test_messages_of_all_sizes_come_whole(here, there, memory):
    publisher, conn = topic(here), subscriber(there)
    for size in 0, 1, 7, 8, 9, 4096, 65535, 65536, 70000, 1 << 20, 16 << 20:
        data = bytes([size % 251]) * size
        publish(publisher, data)
        assert receive(conn).data == data


@pytest.mark.unless(relayed="direct")
def test_a_message_goes_once_over_a_link(one, two):
    publisher = topic(one)
    subscribers = [subscriber(two) for _ in range(20)]
    before = one.link(2)["tx"]["bytes"]
    publish_many(publisher, 50, 1000)
    for conn in subscribers:
        assert account(conn, 50) == 0
    assert 50000 < one.link(2)["tx"]["bytes"] - before < 2 * 50000


def test_who_is_slow_is_told_of_the_topic_that_came_meanwhile(here, there):
    """What was published since, and what it has missed of that, is then known exactly."""
    publisher, slow, watching = topic(here), subscriber(there), subscriber(there)
    publish_many(publisher, 1000, 8000)
    publisher.close()
    until(watching, WAITING)
    publisher = topic(here)
    until(watching, SUBSCRIBED)
    publish_many(publisher, 2000, 8000)
    account(watching, 2000)
    assert until(slow, SUBSCRIBED).count == 0
    assert account(slow, 2000) > 500


def test_a_slow_one_holds_up_no_other(here, there, memory):
    publisher = topic(here)
    slow, quick = subscriber(there), subscriber(there)
    publish_to_who_keeps_up(publisher, quick)
    assert account(slow, 2000) > 0


def test_a_late_one_is_told_how_many_were_before(here, there):
    publisher = topic(here)
    publish_many(publisher, 7, 40)
    conn = subscriber(there, count=7, unknown=0)
    publish(publisher, b"8")
    assert receive(conn).data == b"8"
    subscriber(there, count=8, unknown=0)


# ---- what is kept ----

def test_what_is_kept_comes_first_of_the_next_publisher(here, there):
    first = topic(here, flags=RETAIN)
    conn = subscriber(there)
    publish(first, b"one")
    assert receive(conn).data == b"one"
    first.close()
    expect(conn, WAITING, unknown=0)
    second = topic(here, flags=RETAIN)
    publish(second, b"two")
    until(conn, SUBSCRIBED)
    message = receive(conn)  # it was published before or after the subscription
    if message.notice:
        assert message.notice.kind == KEPT
        message = receive(conn)
    assert message.data == b"two"


def publish_keyed(conn, *words):
    """Each word is a key of a letter, and its value."""
    for word in words:
        assert conn.send_key("self:news", word[:1].encode(), word[1:].encode()) == 0


def kept(node, count):
    """What somebody who comes now gets first."""
    with subscriber(node) as conn:
        words = []
        for _ in range(count):
            expect(conn, KEPT)
            message = receive(conn)
            words.append(message.key + message.data.decode())
        return words


def test_the_last_message_of_each_key_is_kept(here, there, memory):
    publisher = Connection(here.socket)
    assert publisher.bind_keys("news", 3) == 0
    early = subscriber(there)
    publish_keyed(publisher, "a1", "b2", "a3", "c4", "d5")
    assert [(message.key, message.data) for message in (receive(early) for _ in range(5))] == [
        ("a", b"1"), ("b", b"2"), ("a", b"3"), ("c", b"4"), ("d", b"5")]
    assert kept(there, 3) == ["a3", "c4", "d5"]
    publish_keyed(publisher, "c", "a6")
    assert [(message.key, message.data) for message in (receive(early) for _ in range(2))] == [("c", b""), ("a", b"6")]
    for _ in range(2):
        assert kept(there, 2) == ["d5", "a6"]
    early.close()
    eventually(lambda: channels_of(there) <= 1, "nobody there subscribes any more")
    assert kept(there, 2) == ["d5", "a6"], "the topic itself has the same"
    publish(publisher, b"without one")
    assert kept(there, 3) == ["d5", "a6", "without one"]


def keyed_topic(node, keys):
    conn = Connection(node.socket)
    assert conn.bind_keys("news", keys) == 0
    return conn


def kept_by_key(conn):
    """What is told as kept behind SUBSCRIBED, and the first thing behind that."""
    words = {}
    while (message := receive(conn)).notice and message.notice.kind == KEPT:
        message = receive(conn)
        words[message.key] = message.data
    return words, message


@pytest.mark.parametrize("queue", [0, 1])
def test_all_that_is_kept_comes_whatever_the_queue(host, one, two, queue):
    early = subscriber(two, "1:news", WAITING, queue)
    letters = "abcdefghijklmnopqrstuvwxyz"
    host.sim("pause", 2)
    publisher = keyed_topic(one, 60)
    publish_keyed(publisher, *(letter + "1" for letter in letters))
    host.sim("unpause", 2)
    expect(early, SUBSCRIBED)
    publish_keyed(publisher, "a2")
    words, behind = kept_by_key(early)
    assert list(words) in (list(letters), list(letters[1:])) and behind.data == b"2", (words, behind)


@pytest.mark.unless(relayed="direct")
def test_who_comes_after_others_have_missed_something_is_told(host, one, two):
    """What the daemon there keeps for them may be an old value, and what it counts is right nevertheless."""
    publisher, first = keyed_topic(one, 5), subscriber(two)
    publish_keyed(publisher, "a1", "b1")
    assert [receive(first).key for _ in range(2)] == ["a", "b"]
    host.sim("pause", 2)
    publish_keyed(publisher, "a2")
    for number in range(400):
        assert publisher.send_key("self:news", b"x", b"%d" % number + bytes(10000)) == 0
    host.sim("unpause", 2)
    missed = until(first, MISSED)
    while receive(first).data[:3] != b"399":
        pass
    late = subscriber(two, count=403, unknown=int(missed.unknown))
    words, behind = kept_by_key(late)
    assert words["x"][:3] == b"399"
    assert behind.notice.kind == MISSED and behind.notice.unknown


def test_what_is_kept_leaves_its_user_room_for_the_rest(nodes):
    one, = nodes(1, config="[limits]\nmax-queued-bytes = 16M\n").values()
    topics = [Connection(one.socket) for _ in range(3)]
    for number, conn in enumerate(topics):
        assert conn.bind_keys(f"news-{number}", 4095) == 0
        for key in range(100):
            assert conn.send_key(f"self:news-{number}", b"%d" % key, bytes(70000)) == 0
    deliver(one, one)
    with subscriber(one, "self:news-0") as late:
        keys = []
        while "99" not in keys:  # some may go while they are told, which is told in their place
            words, behind = kept_by_key(late)
            keys += words
            assert behind.notice.kind == MISSED, "the oldest have gone, which is told"


def test_keys_are_for_topics_that_keep_them(one):
    with Connection(one.socket) as conn:
        assert conn.bind_keys("news", 4096) == -errno.EINVAL
        assert conn.bind_keys("news", 3, TOPIC) == -errno.EINVAL
        assert conn.bind_keys("news", 3, 0) == -errno.EINVAL
        assert conn.bind_keys("news", 4095) == 0
        for key in b"", b"x" * 256, b"\n":
            assert conn.send_key("self:news", key, b"x") == -errno.EINVAL
        assert conn.send_key("self:news", b"x", b"x", AT_ONCE) == -errno.EINVAL
        assert conn.send_key("self:news", b"x" * 255, b"x") == 0


# ---- a bound of its own ----

def publish_beside(node, publisher, *numbers):
    """Publishes, and returns when somebody without a bound has it, so that all have been given what they may have."""
    with subscriber(node) as quick:
        for number in numbers:
            publish(publisher, b"%d" % number)
            assert receive(quick).data == b"%d" % number


def rest(conn, last):
    """What there is for it up to this message: its numbers, and how many it was told to have missed before."""
    came, missed, position = [], [], 0
    while position <= last:
        message = receive(conn)
        if message.notice:
            assert (message.notice.kind, message.notice.unknown) == (MISSED, 0)
            missed.append(message.notice.count)
            position += message.notice.count
        else:
            assert int(message.data) == position, "all is in order, and what isn't there was told"
            came.append(position)
            position += 1
    return came, missed


def test_who_keeps_the_newest_gets_them_and_how_many_not(here, there, memory):
    publisher = topic(here)
    for queue in 1, 10:
        conn = subscriber(there, queue=queue)
        publish_beside(there, publisher, *range(100))
        came, missed = rest(conn, 99)
        assert came[-queue:] == list(range(100 - queue, 100)) and len(came) <= 2 * queue
        assert sum(missed) == 100 - len(came)
        publish_beside(there, publisher, 0)
        assert rest(conn, 0) == ([0], []), "who keeps up misses nothing"


def test_who_keeps_the_oldest_gets_them_and_how_many_not(here, there, memory):
    publisher = topic(here)
    for queue in 1, 10:
        conn = subscriber(there, queue=queue, flags=KEEP_OLDEST)
        publish_beside(there, publisher, *range(100))
        came = []
        while len(came) < queue:
            came.append(int(receive(conn).data))
        assert came == list(range(queue))
        assert conn.wait(int(20000 * PATIENCE)) > 0
        notice = expect(conn, MISSED, unknown=0)
        assert notice.count == 100 - queue
        publish_beside(there, publisher, 0)
        assert rest(conn, 0) == ([0], []), "when it has room it gets what comes"


def test_a_bound_neither_hides_that_a_topic_goes(here, there):
    for flags in 0, KEEP_OLDEST:
        publisher = topic(here)
        conn = subscriber(there, queue=1, flags=flags)
        publish_beside(there, publisher, *range(20))
        publisher.close()
        while True:
            message = receive(conn)
            if message.notice and message.notice.kind == WAITING:
                break
            assert not message.notice or message.notice.kind == MISSED
        conn.close()
        eventually(lambda: "news" not in here.endpoints(), "it is gone")


def test_a_bound_stays_with_the_next_daemon(one):
    command = one.popen("subscribe", "--json", "--queue", "2", "self:news")
    assert json.loads(command.stdout.readline())["notice"] == "waiting"
    one.stop()
    one.start()
    publisher = topic(one)
    while (told := json.loads(command.stdout.readline()))["notice"] != "subscribed":
        assert told["unknown"]  # it was back before the topic
    command.send_signal(signal.SIGSTOP)
    conn = subscriber(one)
    for number in range(20):
        publish(publisher, b"%d" % number)
        assert receive(conn).data == b"%d" % number
    command.send_signal(signal.SIGCONT)
    told = [json.loads(command.stdout.readline())]
    while told[-1].get("text") != "19":
        told.append(json.loads(command.stdout.readline()))
    missed = sum(line["count"] for line in told if line.get("notice") == "missed")
    assert missed >= 10 and missed + sum("text" in line for line in told) == 20


def test_a_bound_must_be_one(one):
    with Connection(one.socket) as conn:
        assert conn.subscribe("1:news", 65536) == -errno.EINVAL
        assert conn.subscribe("1:news", 0, KEEP_OLDEST) == -errno.EINVAL
        assert conn.subscribe("1:news", 65535, KEEP_OLDEST) == 0
        how = KeyOptions(ctypes.sizeof(KeyOptions), USUAL_MS, 0, None, None, 0, 3)
        assert conn.library.xenmsg_bind(conn.conn, b"plain", ctypes.byref(how), None, None) == -errno.EINVAL
    for arguments in ("--queue", "65536"), ("--keep", "oldest"), ("--queue", "1", "--keep", "both"), ("--queue", "0"):
        done = one.xenmsg("subscribe", *arguments, "1:news")
        assert done.returncode == EXIT_USAGE and done.stderr.count(b"\n") == 1, done


# ---- who comes and goes ----

def test_a_subscription_waits_for_its_topic(here, there, memory):
    conn = subscriber(there, first=WAITING)
    for number in range(3):
        publisher = topic(here)
        assert bool(expect(conn, SUBSCRIBED).unknown) == (number > 0)
        publish(publisher, b"%d" % number)
        assert receive(conn).data == b"%d" % number
        publisher.close()
        expect(conn, WAITING, unknown=0)


def test_a_subscription_waits_for_its_domain(nodes, two):
    conn = subscriber(two, first=WAITING)
    here = nodes(1)[1]
    publisher = topic(here)
    expect(conn, SUBSCRIBED, unknown=0)
    publish(publisher, b"hello")
    assert receive(conn).data == b"hello"


def test_a_lost_daemon_is_told_as_unknown(one, two):
    publisher, conn = topic(one), subscriber(two)
    publish(publisher, b"one")
    assert receive(conn).data == b"one"
    one.kill()
    expect(conn, WAITING, unknown=1)
    one.start()
    publisher = topic(one)
    until(conn, SUBSCRIBED)
    publish(publisher, b"two")
    assert receive(conn).data == b"two"


def test_dying_subscribers_leave_nothing(here, there):
    publisher = topic(here)
    for _ in range(3):
        some = [subscriber(there) for _ in range(5)]
        publish_many(publisher, 200, 4000)
        some.pop().unsubscribe("1:news")
        for conn in some:
            conn.close()
    eventually(lambda: [channels_of(node) for node in (here, there)] == [1, 0] or (here is there and channels_of(here) == 1),
               "no channel is left but the publisher's")


def channels_of(node):
    return sum(account["channels"]["used"] for account in node.status()["accounts"])


def test_unsubscribing_ends_it_and_it_may_begin_again(here, there, memory):
    publisher, conn = topic(here), subscriber(there)
    assert conn.subscribe("1:news") == -errno.EEXIST
    publish(publisher, b"one")
    assert conn.unsubscribe("1:news") == 0
    assert conn.unsubscribe("1:news") == -errno.ENOENT
    publish(publisher, b"two")
    assert conn.subscribe("1:news") == 0
    expect(conn, SUBSCRIBED, count=2)
    publish(publisher, b"three")
    assert receive(conn).data == b"three"


def test_a_topic_is_listed_as_one(one, two):
    topic(one)
    with Connection(one.socket, binds="plain") as other:
        for node in one, two:
            eventually(lambda node=node: {entry["name"]: entry["kind"] for entry in node.json("endpoints", "1")}
                       == {"news": "topic", "plain": "any"}, "both are listed, each with its kind")


# ---- who may ----

def test_policy_decides_who_may_subscribe(one, two):
    publisher = topic(one)
    topic(one, "secret")
    one.set_policy("[rule]\nfrom = *\nto = news\naction = allow\n")
    conn = Connection(two.socket)
    eventually(lambda: conn.subscribe("1:secret") == -errno.EACCES or conn.unsubscribe("1:secret"), "it is denied")
    conn.close()
    conn = subscriber(two)
    publish(publisher, b"one")
    assert receive(conn).data == b"one"
    one.set_policy("[rule]\nfrom = *\nto = *\naction = deny\n")
    expect(conn, ENDED, error=-errno.EACCES)
    assert conn.subscribe("1:news") == -errno.EEXIST
    assert conn.unsubscribe("1:news") == 0
    assert conn.subscribe("1:news") == -errno.EACCES
    publish(publisher, b"two")
    done = two.xenmsg("subscribe", "1:news")
    assert done.returncode == EXIT_DENIED and done.stderr.count(b"\n") == 1


def test_what_one_user_may_hear_another_one_may_not(one, two):
    one.set_policy("[rule]\nfrom = *\nuid = 0\nto = news\naction = allow\n")
    open_to_others(two)
    publisher, conn = topic(one), subscriber(two)
    done = subprocess.run([tool("xenmsg"), "--socket", two.socket, "subscribe", "1:news"], user=NOBODY, group=NOBODY, extra_groups=[],
                          stdout=subprocess.PIPE, check=False, timeout=60 * PATIENCE)
    assert (done.returncode, done.stdout) == (EXIT_DENIED, b"")
    publish(publisher, b"to root")
    assert receive(conn).data == b"to root"


def test_only_its_program_publishes(here, there):
    publisher, conn = topic(here), subscriber(there)
    with Connection(here.socket) as other:
        assert other.send("1:news", b"forged") == -errno.EPROTOTYPE
        assert other.call("1:news", b"forged") == -errno.EPROTOTYPE
        assert other.connect("1:news") == -errno.EPROTOTYPE
        assert other.bind("news", TOPIC) == -errno.EEXIST
        assert other.bind("news") == -errno.EEXIST
        assert other.bind("plain") == 0
        assert other.subscribe("1:plain") == -errno.EPROTOTYPE
        assert other.bind("wrong", TOPIC | SHARED) == -errno.EINVAL
        assert other.bind("wrong", RETAIN) == -errno.EINVAL
        assert other.subscribe("no address") == -errno.EINVAL
    publish(publisher, b"true")
    assert receive(conn).data == b"true"


# ---- who listens ----

class Heard:
    """What a publisher is told of its listeners."""

    def __init__(self, node, name="news"):
        self.conn, self.counts = Connection(node.socket), []
        self.conn.on_listeners(lambda topic, count: self.counts.append((topic, count)))
        assert self.conn.bind(name, TOPIC | COUNT_LISTENERS) == 0
        self.name = name

    def until(self, count, *others):
        """The others go on, too."""
        def told():
            for conn in others:
                conn.wait(0)
            assert self.conn.library.xenmsg_process(self.conn.conn) >= 0
            return (self.counts or [(self.name, 0)])[-1] == (self.name, count)
        eventually(told, f"{count} listen, and the publisher is told", 90)  # whose link was away then is waited for as long as resume-for, 60 s


def listeners_in_status(node):
    return {entry["name"]: entry["topic"]["listeners"] for entry in node.status()["endpoints"] if entry["topic"]}


def test_who_publishes_is_told_how_many_listen(here, there, memory):
    heard = Heard(here)
    assert heard.counts == []
    first = subscriber(there)
    heard.until(1)
    some = [subscriber(there) for _ in range(20)]
    heard.until(21)
    assert listeners_in_status(here)["news"] == 21
    some[0].unsubscribe("1:news")
    for conn in some[1:]:
        conn.close()
    heard.until(1, some[0])
    first.close()
    heard.until(0)
    assert all(name == "news" for name, _ in heard.counts)
    again = subscriber(there)
    heard.until(1)
    assert heard.conn.unbind("news") == 0
    assert heard.conn.bind("news", TOPIC) == 0
    expect(again, WAITING, unknown=0)
    until(again, SUBSCRIBED)
    assert listeners_in_status(here)["news"] == 1, "it is counted, though nobody is told"


def test_a_subscription_beyond_a_quota_is_refused(nodes):
    """It would hear nothing, not even that it waits."""
    one, = nodes(1, config="[limits]\nmax-channels = 16\n").values()
    with Connection(one.socket) as conn:
        results = [conn.subscribe(f"self:news-{number}") for number in range(17)]
        assert set(results) == {0, -errno.ENOBUFS}, results
        for _ in range(results.count(0)):
            expect(conn, WAITING)


def test_a_subscription_that_finds_no_room_there_is_refused(nodes):
    """And not left to wait for what doesn't come."""
    one, two = nodes(1)[1], nodes(2, config=FAST + "[limits]\nmax-channels = 16\n")[2]
    with Connection(two.socket) as publisher, Connection(one.socket) as conn:
        for number in range(17):
            assert publisher.bind(f"news-{number}", TOPIC) == 0
        results = [conn.subscribe(f"2:news-{number}") for number in range(17)]
        assert set(results) == {0, -errno.ENOBUFS}, results
        for _ in range(results.count(0)):
            expect(conn, SUBSCRIBED)


def test_listeners_of_all_domains_are_counted(one, two, three):
    heard = Heard(one)
    some = [subscriber(node) for node in (one, two, two, three)]
    heard.until(4)
    three.kill()
    heard.until(3)
    two.stop()
    heard.until(1)
    some[0].close()
    heard.until(0)


def test_a_command_says_when_somebody_subscribes(one, two):
    with Connection(one.socket) as plain:
        assert plain.bind("plain", COUNT_LISTENERS) == -errno.EINVAL
    command = one.popen("publish", "--lines", "--verbose", "--retain", "news", stdin=subprocess.PIPE, stderr=subprocess.PIPE, binds="news")
    conn = subscriber(two)
    eventually(lambda: listeners_in_status(one)["news"] == 1, "one listens")
    conn.close()
    eventually(lambda: listeners_in_status(one)["news"] == 0, "none listens")
    lines = []
    while not lines or "nobody" not in lines[-1]:
        lines.append(command.stderr.readline().decode())
        assert lines[-1], lines
    assert any("somebody subscribes" in line for line in lines)
    command.stdin.close()
    command.wait(20 * PATIENCE)


# ---- the commands ----

def test_commands_publish_and_subscribe(here, there):
    getting = there.popen("subscribe", "--json", "--count", "2", "1:news")
    assert json.loads(getting.stdout.readline())["notice"] == "waiting"
    publishing = here.popen("publish", "--lines", "--stay", "60", "news", stdin=subprocess.PIPE, binds="news")
    with Connection(there.socket) as conn:  # whose replica is that of the command
        assert conn.subscribe("1:news") == 0
        until(conn, SUBSCRIBED)
        publishing.stdin.write(b"one\ntwo\n")
        publishing.stdin.close()
        told = [json.loads(line) for line in getting.communicate(timeout=20 * PATIENCE)[0].splitlines()]
    assert [each["text"] for each in told if "text" in each] == ["one", "two"]
    publishing.kill()


def test_one_message_reaches_who_waits_and_who_comes(here, there):
    waiting = there.popen("subscribe", "--count", "1", "1:news")
    publishing = here.popen("publish", "--stay", "60", "news", "hello")
    assert waiting.communicate(timeout=20 * PATIENCE)[0] == b"hello\n"
    assert there.xenmsg("subscribe", "--count", "1", "--raw", "1:news").stdout == b"hello"
    publishing.kill()


def test_commands_that_are_stopped_and_continued_subscribe(one):
    """None ends before all signals are sent: LeakSanitizer, at the end of a process, waits for ever where it is stopped then."""
    with topic(one, flags=RETAIN) as conn:
        commands = [one.popen("subscribe", "--count", "1", "1:news") for _ in range(8)]
        for each in 100 * commands:
            each.send_signal(signal.SIGSTOP)
            each.send_signal(signal.SIGCONT)
        publish(conn, b"kept")
        for each in commands:
            assert each.communicate(timeout=20 * PATIENCE)[0] == b"kept\n"


def test_each_message_reaches_who_waits_and_who_comes(here, there):
    waiting = there.popen("subscribe", "--count", "3", "1:news")
    publishing = [here.popen("publish", "--each", "--stay", "60", "news", "--", "one", "-", "--three"),
                  here.popen("publish", "--each", "--retain-keys", "2", "--stay", "60", "config", "a 1", "b 2", "a 3")]
    assert waiting.communicate(timeout=20 * PATIENCE)[0] == b"one\n-\n--three\n"
    for name, all_kept in ("news", [("1", "one"), ("2", "-"), ("3", "--three")]), ("config", [("b", "b 2"), ("a", "a 3")]):
        eventually(lambda name=name: published(there, name) == 3, "all are published")
        done = there.xenmsg("subscribe", "--json", "--count", str(len(all_kept)), f"1:{name}")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [(line["key"], line["text"]) for line in lines if "text" in line] == all_kept
        assert [line["notice"] for line in lines if "notice" in line] == ["subscribed"] + ["kept"] * len(all_kept)
    for command in publishing:
        command.kill()


def published(node, name):
    with Connection(node.socket) as conn:
        return conn.subscribe(f"1:{name}") == 0 and until(conn, SUBSCRIBED).count


def test_lines_are_kept_by_their_first_word(here, there):
    publishing = here.popen("publish", "--lines", "--retain-keys", "2", "--stay", "60", "news", stdin=subprocess.PIPE)
    publishing.stdin.write(b"a 1\nb 2\na 3\nc 4\nb 5\nc\n")
    publishing.stdin.close()
    eventually(lambda: published(there, "news") == 6, "all lines are published")
    done = there.xenmsg("subscribe", "--json", "--count", "1", "1:news")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line.get("notice") for line in lines] == ["subscribed", "kept", None]
    assert (lines[2]["key"], lines[2]["text"]) == ("b", "b 5")
    publishing.kill()
    done = there.popen("publish", "--lines", "--retain-keys", "2", "other", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    assert b"its key" in done.communicate(b" x\n", timeout=20 * PATIENCE)[1] and done.returncode == EXIT_USAGE


def test_a_command_is_run_for_each_message(here, there, tmp_path):
    publisher = Connection(here.socket)
    assert publisher.bind_keys("news", 3) == 0
    out = tmp_path / "out"
    command = f'(echo "$XENMSG_ENDPOINT $XENMSG_SENDER_DOMID $XENMSG_SENDER_PID ${{XENMSG_KEY-none}}"; cat; echo) >>{out}; exit 7'
    getting = there.popen("subscribe", "--count", "2", "--exec", command, "1:news", stderr=subprocess.PIPE)
    eventually(lambda: of_topic(here)["count"] == 1, "it subscribes")
    publish_keyed(publisher, "a$(one)")
    publish(publisher, b"two")
    err = getting.communicate(timeout=20 * PATIENCE)[1]
    assert getting.returncode == 0 and err.count(b"ended with status 7") == 2, err
    stamp = f"1:news 1 {os.getpid()}"
    assert out.read_text() == f"{stamp} a\n$(one)\n{stamp} none\ntwo\n"


def test_who_runs_commands_slowly_misses_and_says_so(one, tmp_path):
    publisher = topic(one)
    go, ran = tmp_path / "go", tmp_path / "ran"
    getting = one.popen("subscribe", "--verbose", "--exec", f"until [ -e {go} ]; do sleep 0.02; done; head -c 8 | cut -d' ' -f1 >>{ran}",
                         "self:news", stderr=subprocess.PIPE)
    while b"subscribed; published before: 0" not in getting.stderr.readline():
        pass
    publish_many(publisher, 300, 60000)
    go.touch()
    publish_many(publisher, 1, 60000, 300)
    eventually(lambda: ran.exists() and ran.read_text().split()[-1:] == ["300"], "the last one has come")
    getting.terminate()
    came = [int(line) for line in ran.read_text().split()]
    missing = [int(line.split()[4]) for line in getting.communicate(timeout=20 * PATIENCE)[1].decode().splitlines() if "missing here" in line]
    assert came == sorted(set(came)) and len(came) + sum(missing) == 301 and missing


def test_commands_complain_in_one_line(one):
    for code, arguments in ((EXIT_USAGE, ("publish",)), (EXIT_USAGE, ("publish", "no:topic", "x")),
                            (EXIT_USAGE, ("publish", "--retain", "news", "x")), (EXIT_USAGE, ("subscribe",)),
                            (EXIT_USAGE, ("publish", "--retain-keys", "2", "news", "x")),
                            (EXIT_USAGE, ("publish", "--lines", "--retain-keys", "4096", "news")),
                            (EXIT_USAGE, ("publish", "--each", "news")), (EXIT_USAGE, ("publish", "--each", "--lines", "news", "x")),
                            (EXIT_USAGE, ("publish", "--each", "--retain", "news", "x")),
                            (EXIT_USAGE, ("publish", "--each", "news", *4096 * ["x"])),
                            (EXIT_USAGE, ("publish", "--each", "--retain-keys", "2", "news", " x")),
                            *((EXIT_USAGE, ("subscribe", pattern)) for pattern in ("*", "*:*", "*:", "a/b/*:news")), (EXIT_USAGE, ("subscribe", "--json", "--raw", "1:news")),
                            (EXIT_USAGE, ("subscribe", "--exec", "cat", "--raw", "1:news")),
                            (EXIT_TIMEOUT, ("subscribe", "--timeout", "0.01", "1:news"))):
        done = one.xenmsg(*arguments)
        assert done.returncode == code and done.stderr.count(b"\n") == 1, done
    one.popen("recv", "inbox", binds="inbox")
    done = one.xenmsg("subscribe", "1:inbox")
    assert done.returncode == 1 and b"that endpoint takes messages: xenmsg send 1:inbox" in done.stderr


# ---- what is told of them ----

def of_topic(node, name="news"):
    return next(entry for entry in node.status()["endpoints"] if entry["name"] == name)["topic"]


def tally(entry):
    return entry["delivered"], entry["missed"], entry["gaps"]


def test_status_counts_what_was_published_delivered_and_missed(here, there, valid):
    publisher = topic(here, flags=RETAIN)
    conns = [subscriber(there) for _ in range(3)]
    publish_many(publisher, 100, 40)
    for conn in conns:
        assert account(conn, 100) == 0
    eventually(lambda: tally(of_topic(here)) == (100, 0, 0), "all are on their way")
    told = of_topic(here)
    assert (told["published"], told["keeps"], told["count"]) == (100, 1, 1)
    of_user, = told["subscribers"]
    assert (of_user["domid"], of_user["host"], of_user["uid"], of_user["waiting"]) == (there.domid, None, os.getuid(), 0)
    mine, = there.status()["subscriptions"]
    assert (mine["address"], mine["uid"], mine["state"], mine["count"]) == ("1:news", os.getuid(), "subscribed", 3)
    assert mine["published"] == 100 and tally(mine) == (300, 0, 0)
    assert [(each["pid"], tally(each), each["waiting"]) for each in mine["subscribers"]] == 3 * [(os.getpid(), (100, 0, 0), 0)]
    valid(here.status())
    valid(there.status())
    conns.pop().close()
    eventually(lambda: there.status()["subscriptions"][0]["count"] == 2, "one has gone")
    assert tally(there.status()["subscriptions"][0]) == (300, 0, 0)
    for conn in conns:
        conn.close()
    eventually(lambda: not there.status()["subscriptions"] and of_topic(here)["count"] == 0, "all have gone")
    assert tally(of_topic(here)) == (100, 0, 0)


def test_status_and_metrics_say_who_is_slow(one, valid):
    publisher = topic(one)
    slow, quick = subscriber(one), subscriber(one)
    publish_to_who_keeps_up(publisher, quick)
    status = one.status()
    valid(status)
    mine, = status["subscriptions"]
    first, second = mine["subscribers"]
    assert first["waiting"] > 0 and first["delivered"] < 2000, "the one that is slow is first"
    assert (tally(second), second["waiting"]) == ((2000, 0, 0), 0)
    missed = account(slow, 2000)
    assert missed > 0
    eventually(lambda: tally(one.status()["subscriptions"][0]) == (4000 - missed, missed, 0), "it is told and counted")
    metrics = one.xenmsg("status", "--metrics").stdout.decode()
    labels = f'{{address="1:news",uid="{os.getuid()}"}}'
    for line in ('xenmsg_endpoint_published_total{endpoint="news"} 2000', 'xenmsg_endpoint_subscribers{endpoint="news"} 1',
                 f"xenmsg_subscription_programs{labels} 2", f"xenmsg_subscription_missed_total{labels} {missed}",
                 f"xenmsg_subscription_delivered_total{labels} {4000 - missed}", f"xenmsg_subscription_gaps_total{labels} 0"):
        assert f"{line}\n" in metrics, line


def test_status_counts_what_is_missed_on_the_way_and_unknown(one, two, valid):
    publisher, conn = topic(one), subscriber(two)
    with stopped(two.pid):
        publish_many(publisher, 1000, 8000)
    publish_many(publisher, 1, 8000, 1000)
    missed = account(conn, 1001)
    assert missed > 0
    eventually(lambda: tally(two.status()["subscriptions"][0]) == (1001 - missed, missed, 0), "both daemons have missed some")
    assert 0 < of_topic(one)["missed"] <= missed
    one.kill()
    expect(conn, WAITING, unknown=1)
    told, = two.status()["subscriptions"]
    assert told["state"] in ("waiting", "subscribing") and tally(told) == (1001 - missed, missed, 1)
    valid(two.status())


def test_subscriptions_of_others_are_not_told(one):
    publisher = topic(one)
    conn = subscriber(one)
    publish(publisher, b"x")
    open_to_others(one)
    status = json.loads(subprocess.run([tool("xenmsg"), "status", "--json", "--socket", one.socket], user=NOBODY, group=NOBODY,
                                       extra_groups=[], stdout=subprocess.PIPE, check=True, timeout=60 * PATIENCE).stdout)
    assert status["subscriptions"] == [] and status["totals"]["subscriptions"] == 0
    assert all("topic" not in entry for entry in status["endpoints"])
    conn.close()


def test_top_shows_topics(one, terminal):
    publisher, conn = topic(one), subscriber(one)
    top = terminal(one, tool("xenmsg"), "top", "--delay", "0.2", rows=40)
    screen = top.shows("TOPIC", "\nnews ", "\n1:news ")
    assert all(len(line) <= 80 for line in screen)
    publish(publisher, b"x")
    assert receive(conn).data == b"x"
    top.press("q")
    assert top.code() == 0
