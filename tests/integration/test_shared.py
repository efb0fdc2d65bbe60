# SPDX-License-Identifier: LGPL-2.1-or-later
"""Shared endpoints: several programs serve one, and what one of them leaves goes to another without its sender noticing."""

import errno
import os
import random
import signal
import threading
import time

import pytest

from library import FATE_UNKNOWN, Connection, program
from messaging import EXIT_OK, PATIENCE, eventually

SHARED, WAIT = 4096, 32768


@pytest.fixture(autouse=True)
def _connections_end_with_their_test():
    yield
    Connection.close_all()


def address(node, endpoint="work"):
    return f"{node.domid}:{endpoint}"


def post(sender, where, payloads):
    """Sends them all, and returns the list of outcomes as they come."""
    outcomes = []
    for payload in payloads:
        assert sender.post(where, payload, outcomes.append) == 0
    sender.wait(0)
    return outcomes


def received(conn, count):
    """The next messages. Without shared memory it is reported that they were taken when the connection is used again."""
    payloads = [conn.receive().data for _ in range(count)]
    conn.wait(0)
    return payloads


def channels_of(node):
    """How many each of the endpoint's programs has, in the order in which they have bound it."""
    return [program["channels"] for entry in node.status()["endpoints"] if entry["name"] == "work" for program in entry["programs"]]


def lies_with(node, *queues):
    """Waits until the programs of the endpoint have so many channels."""
    eventually(lambda: channels_of(node) == list(queues), f"the programs have {queues} channels")


# ---- who gets what ----

def test_one_sender_gets_to_one_program_in_order(here, there, memory):
    first, second = Connection(there.socket), Connection(there.socket)
    assert first.bind("work", SHARED) == second.bind("work", SHARED) == 0
    senders = [Connection(here.socket) for _ in range(4)]
    outcomes = [post(sender, address(there), [b"%d %d" % (i, j) for j in range(20)]) for i, sender in enumerate(senders)]
    lies_with(there, 2, 2)
    for conn in first, second:
        by_sender = {}
        for text in received(conn, 40):
            sender, number = map(int, text.split())
            by_sender.setdefault(sender, []).append(number)
        assert len(by_sender) == 2 and all(numbers == list(range(20)) for numbers in by_sender.values())
    for i, sender in enumerate(senders):
        eventually(lambda i=i, sender=sender: sender.wait(10) >= 0 and len(outcomes[i]) == 20, "all outcomes are there")
    assert all(set(each) == {0} for each in outcomes)


def test_who_takes_nothing_gets_nothing_more(here, there, memory):
    deaf, busy = Connection(there.socket), Connection(there.socket)
    assert deaf.bind("work", SHARED) == busy.bind("work", SHARED) == 0
    senders = []
    for i in range(20):
        senders.append(Connection(here.socket))
        post(senders[-1], address(there), [b"%d" % i])
        if i:
            received(busy, 1)
            lies_with(there, 1, i)
    assert deaf.receive().data == b"0"


def test_bound_more_than_once_only_if_all_say_so(nodes):
    node = nodes(1)[1]
    one, two, three = (Connection(node.socket) for _ in range(3))
    assert one.bind("work", SHARED) == 0
    assert two.bind("work") == -errno.EEXIST
    assert two.bind("work", SHARED | 1) == -errno.EEXIST  # for messages alone
    assert "other kinds" in two.reason()
    assert two.bind("alone") == 0
    assert three.bind("alone", SHARED) == -errno.EEXIST
    assert three.bind("work", SHARED) == 0
    assert three.bind("work", SHARED) == -errno.EEXIST
    one.close()
    assert node.endpoints() == ["alone", "work"]
    three.close()
    eventually(lambda: node.endpoints() == ["alone"], "it goes with the last of them")


# ---- what goes on ----

@pytest.mark.parametrize("how", ["unbind", "close", "kill"])
def test_what_one_hasnt_taken_goes_on_in_order(here, there, memory, how):
    leaver = program(there, """
assert c.bind('work', 4096) == 0
print('bound')
for i in range(5):
    assert c.receive().data == b'%d' % i
print('taken')
how = sys.stdin.readline().strip()
if how == 'unbind':
    assert c.unbind('work') == 0
    c.wait(0)
elif how == 'close':
    c.close()
print('left')
time.sleep(1000)
""")
    assert leaver.stdout.readline() == b"bound\n"
    sender = Connection(here.socket)
    outcomes = post(sender, address(there), [b"%d" % i for i in range(100)])
    assert leaver.stdout.readline() == b"taken\n"
    heir = Connection(there.socket)
    assert heir.bind("work", SHARED) == 0
    if memory == "0":  # else it is reported when the program uses its connection again
        eventually(lambda: sender.wait(10) >= 0 and len(outcomes) >= 5, "the first are delivered")
    if how == "kill":
        leaver.kill()
    else:
        leaver.stdin.write(how.encode() + b"\n")
        leaver.stdin.flush()
        assert leaver.stdout.readline() == b"left\n"
    # Over a socket, a program that is killed may have taken all that was sent to it, as far as is known.
    in_doubt = how == "kill" and memory == "1"
    if not in_doubt:
        assert received(heir, 95) == [b"%d" % i for i in range(5, 100)]
    eventually(lambda: (sender.wait(10), heir.wait(0)) and len(outcomes) == 100, "all outcomes are there")
    if in_doubt:  # but for those of which it had told, which it does when it must wait for the next one
        told = outcomes.count(0)
        assert told < 5 and outcomes == [0] * told + [-errno.ECONNRESET] * (100 - told)
    else:
        assert outcomes == [0] * 100
    post(sender, address(there), [b"more"])  # on the same channel
    assert received(heir, 1) == [b"more"]


def test_a_message_that_one_has_half_read_goes_on_whole(here, there, memory):
    leaver, heir, sender = Connection(there.socket), Connection(there.socket), Connection(here.socket)
    assert leaver.bind("work", SHARED) == 0
    large = os.urandom(60000)
    outcomes = post(sender, address(there), [large[:40000], large])
    assert leaver.receive().data == large[:40000]
    leaver.wait(0)  # reads the beginning of the next
    assert heir.bind("work", SHARED) == 0
    leaver.close()
    # The sender is to send the rest meanwhile, which has no credit before.
    eventually(lambda: sender.wait(10) >= 0 and heir.wait(10) > 0, "the message is there")
    assert received(heir, 1) == [large]
    eventually(lambda: (sender.wait(10), heir.wait(0)) and len(outcomes) == 2, "all outcomes are there")
    assert outcomes == [0, 0]


def test_a_killed_servers_call_is_in_doubt_and_the_next_goes_on(here, there, memory):
    server = program(there, """
assert c.bind('work', 4096) == 0
print('bound')
first = c.take()
c.wait(0)
print(first.data.decode())
time.sleep(1000)
""")
    assert server.stdout.readline() == b"bound\n"
    caller, heir = Connection(here.socket), Connection(there.socket)
    ended = {}
    assert caller.call_post(address(there), b"one", lambda what: ended.update(one=(what, caller.last.fate))) == 0
    assert server.stdout.readline() == b"one\n"
    assert heir.bind("work", SHARED) == 0
    eventually(lambda: caller.wait(10) >= 0 and there.status()["endpoints"], "the call is taken")
    time.sleep(0.05)  # not for a condition: what was taken is to be reported, which nobody can look at
    server.kill()
    eventually(lambda: caller.wait(10) >= 0 and "one" in ended, "the first has ended")
    assert ended["one"] == (-errno.ECONNRESET, FATE_UNKNOWN)
    assert caller.call_post(address(there), b"two", lambda what: ended.update(two=what)) == 0
    request = heir.take()
    assert request.data == b"two" and request.reply(b"second answer") == 0
    request.free()
    eventually(lambda: caller.wait(10) >= 0 and "two" in ended, "the second has ended")
    assert ended["two"] == b"second answer"


@pytest.mark.unless(renewed="uncertain")
def test_a_withdrawn_message_isnt_taken_by_the_next(here, there, memory):
    leaver, heir, sender = Connection(there.socket), Connection(there.socket), Connection(here.socket)
    assert leaver.bind("work", SHARED) == heir.bind("work", SHARED) == 0
    outcomes = post(sender, address(there), [b"one"])
    assert sender.post_timed(address(there), b"two", 200, outcomes.append) == 0
    outcomes_three = post(sender, address(there), [b"three"])
    eventually(lambda: sum(channels_of(there)) == 1, "one of them has the channel")
    leaver, heir = (leaver, heir) if channels_of(there)[0] else (heir, leaver)
    eventually(lambda: (sender.wait(10), leaver.wait(0)) and len(outcomes) == 1, "the second is withdrawn", 10)
    assert outcomes == [-errno.ETIMEDOUT]
    assert leaver.unbind("work") == 0
    leaver.wait(0)
    assert received(heir, 2) == [b"one", b"three"]
    eventually(lambda: sender.wait(10) >= 0 and outcomes_three == [0], "the last is delivered")


def test_streams_that_one_hasnt_accepted_go_on(here, there):
    leaver, heir, sender = Connection(there.socket), Connection(there.socket), Connection(here.socket)
    assert leaver.listen("work", SHARED) == 0
    opened = []
    opener = threading.Thread(target=lambda: opened.append(sender.connect(address(there))))
    opener.start()
    eventually(lambda: leaver.wait(10) > 0, "a stream has come")
    assert heir.listen("work", SHARED) == 0
    leaver.close()
    fd = heir.accept()
    opener.join()
    assert fd >= 0 and opened[0] >= 0
    os.write(opened[0], b"hello")
    assert os.read(fd, 5) == b"hello"
    os.close(fd)
    os.close(opened[0])


# ---- replacing a service ----

class Load:
    """Callers that never stop, each waiting for its answers; what fails is kept."""

    def __init__(self, node, where, callers):
        self.failures, self.answers, self.over = [], 0, False
        self.threads = [threading.Thread(target=self.work, args=(node.socket, where)) for _ in range(callers)]
        for thread in self.threads:
            thread.start()

    def work(self, path, where):
        with Connection(path) as caller:
            ended = []
            while not self.over:
                for i in range(4):
                    begun = caller.call_post(where, b"%d" % i, ended.append, 60000)
                    assert begun == 0, (begun, caller.reason())
                while len(ended) < 4:
                    caller.wait(1000)
                self.failures += [what for what in ended if isinstance(what, int)]
                self.answers += len(ended)
                ended.clear()

    def end(self):
        self.over = True
        for thread in self.threads:
            thread.join()
        return self.failures


SERVICE = """
import signal
stopping = []
signal.signal(signal.SIGTERM, lambda *_: stopping.append(1))
assert c.bind('work', 4096) == 0
print('bound')
while not stopping:
    request = c.take(20)
    if not isinstance(request, int):
        assert request.reply(request.data) == 0
        request.free()
c.close()
"""


@pytest.mark.parametrize("times", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_service_is_replaced_and_no_call_fails(here, there, memory, times):
    old = program(there, SERVICE)
    assert old.stdout.readline() == b"bound\n"
    load = Load(here, address(there), 3)
    try:
        for _ in range(times):
            new = program(there, SERVICE)
            assert new.stdout.readline() == b"bound\n"
            old.send_signal(signal.SIGTERM)
            assert old.wait(20 * PATIENCE) == 0
            before = load.answers
            eventually(lambda before=before: load.answers > before + 20 or load.failures, "the new one answers")
            old = new
    finally:
        failures = load.end()
    assert failures == [] and load.answers > 20 * times


def test_serve_is_replaced_and_no_call_fails(one, two):
    old = two.popen("serve", "--workers", "2", "work", "--", "sh", "-c", "sleep 0.05; cat", binds="work")
    load = Load(one, "2:work", 2)
    try:
        for _ in range(3):
            new = two.popen("serve", "--shared", "work", "--", "sh", "-c", "sleep 0.05; cat")
            eventually(lambda pid=new.pid: pid in {entry["pid"] for entry in two.status()["endpoints"][0]["programs"]}, "both serve it")
            old.send_signal(signal.SIGTERM)
            old.wait(20 * PATIENCE)
            before = load.answers
            eventually(lambda before=before: load.answers > before + 4 or load.failures, "the new one answers")
            old = new
    finally:
        failures = load.end()
    assert failures == []


def test_a_killed_worker_is_replaced(one):
    one.popen("serve", "--workers", "2", "work", "--", "cat")
    workers = eventually(lambda: [entry["programs"] for entry in one.status()["endpoints"] if len(entry["programs"]) == 2],
                         "both serve it")[0]
    os.kill(workers[0]["pid"], signal.SIGKILL)
    eventually(lambda: len({entry["pid"] for entry in one.status()["endpoints"][0]["programs"]} -
                           {workers[0]["pid"]}) == 2, "another one serves it")
    assert one.xenmsg("call", "self:work", "hello").stdout == b"hello"


def test_recv_shares_and_the_listing_tells_with_whom(one):
    first = one.receiver("inbox", "--shared")
    second = one.popen("recv", "--shared", "inbox")
    eventually(lambda: len(one.status()["endpoints"][0]["programs"]) == 2, "both have it")
    assert one.xenmsg("send", "self:inbox", "hello").returncode == EXIT_OK
    listed = one.xenmsg("endpoints").stdout.decode()
    assert listed.count("inbox") == 1 and "2 programs" in listed
    assert one.xenmsg("status").stdout.decode().count("inbox") >= 1
    first.stop()
    second.terminate()
    second.wait()


class Worker:
    """One of two that serve an endpoint in turns, each draining it while it has calls in service."""

    def __init__(self, conn, arrived, chance):
        self.conn, self.arrived, self.chance = conn, arrived, chance
        self.in_service, self.drained = [], []
        assert conn.bind("work", SHARED) == 0

    def serves(self):
        return not self.drained

    def work(self, may_drain):
        for _ in range(self.chance.randrange(8)):
            request = self.conn.take(0)
            if isinstance(request, int):
                break
            self.arrived.append(int(request.data))
            self.in_service.append(request)
        for _ in range(self.chance.randrange(8)):
            if self.in_service:
                request = self.in_service.pop(self.chance.randrange(len(self.in_service)))
                assert request.reply(request.data) == 0
                request.free()
        self.conn.wait(0)
        if self.drained == [None, 0] and self.conn.bind("work", SHARED) == 0:
            self.drained = []
        elif self.serves() and may_drain and self.in_service and self.chance.random() < 0.1:
            self.drained = [None]
            assert self.conn.drain("work", self.drained.append) == 0


def test_calls_that_wait_arrive_in_order_while_workers_drain(here, there, memory):
    chance, arrived, answers = random.Random(os.environ.get("SEED", 1)), [], []
    workers = [Worker(Connection(there.socket), arrived, chance) for _ in range(2)]
    caller, posted, calls = Connection(here.socket), 0, int(os.environ.get("CALLS", 2000))
    end = time.monotonic() + 60 * PATIENCE
    while len(answers) < calls:
        assert time.monotonic() < end, (posted, len(arrived), len(answers))
        for _ in range(chance.randrange(12)):
            if posted < calls and posted - len(answers) < 64:
                assert caller.call_post(address(there), b"%d" % posted, answers.append, flags=WAIT) == 0
                posted += 1
        caller.wait(1)
        for worker, other in zip(workers, reversed(workers)):
            worker.work(other.serves())
    late = [(before, number) for before, number in zip(arrived, arrived[1:]) if number != before + 1]
    assert not late, (len(late), late[:10])
    assert sorted(answers, key=int) == [b"%d" % number for number in range(calls)]


# Two workers, each of which serves, drains and binds again, and dies at some instruction soon after it has taken so many calls. Each call
# is written down by its taker before that looks at the next one.
MORTALS = """
import random, signal
seed, path = {}, {!r}
parent, number = os.getpid(), 0

def live():
    chance, arrived = random.Random(f'{{seed}} {{number}}'), os.open(path, os.O_WRONLY | os.O_APPEND)
    c, in_service, drained, left = Connection(sys.argv[2]), [], [], chance.randrange(5, 80)
    while c.bind('work', 4096) == 0:
        drained = []
        while drained != [None, 0]:
            if c.wait(1) < 0 or os.getppid() != parent:
                return
            for _ in range(chance.randrange(8)):
                request = c.take(0)
                if isinstance(request, int):
                    break
                os.write(arrived, request.data + b' ')
                in_service.append(request)
                left -= 1
                if not left:
                    signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 0.004))
            for _ in range(chance.randrange(8)):
                if in_service:
                    request = in_service.pop(chance.randrange(len(in_service)))
                    request.reply(request.data)
                    request.free()
            if not drained and in_service and chance.random() < 0.1:
                drained = [None]
                assert c.drain('work', drained.append) == 0

while True:
    number += 1
    if os.fork() == 0:
        try:
            live()
        finally:
            os._exit(1)
    if number > 1:
        assert os.WIFSIGNALED(os.wait()[1])
"""


def test_calls_that_wait_arrive_in_order_while_workers_die(here, there, memory, tmp_path):
    chance, path, answers = random.Random(os.environ.get("SEED", 1)), tmp_path / "arrived", []
    path.write_text("")
    program(there, MORTALS.format(os.environ.get("SEED", 1), str(path)))
    caller, posted, calls = Connection(here.socket), 0, int(os.environ.get("CALLS", 1500))
    end = time.monotonic() + 60 * PATIENCE
    while len(answers) < calls:
        assert time.monotonic() < end, (posted, len(path.read_text().split()), len(answers))
        for _ in range(chance.randrange(12)):
            if posted < calls and posted - len(answers) < 64:
                assert caller.call_post(address(there), b"%d" % posted, answers.append, flags=WAIT) == 0
                posted += 1
        caller.wait(1)
    arrived = list(map(int, path.read_text().split()))
    late = [(before, number) for before, number in zip(arrived, arrived[1:]) if number <= before]
    assert not late, (len(late), late[:10])
    failed = [answer for answer in answers if isinstance(answer, int)]
    assert set(failed) <= {-errno.ECONNRESET}
    assert len(set(answers) - set(failed)) == calls - len(failed) <= len(arrived)
