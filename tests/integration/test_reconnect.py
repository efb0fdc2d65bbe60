# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes on until it is stopped outlives its daemon: the next one finds its endpoints and watches there, and one line
each time tells of it."""

import asyncio
import collections
import json
import os
import random
import signal
import socket
import subprocess
import time

import pytest

from messaging import EXIT_OK, PATIENCE, eventually, stopped

LOST, BACK = "xenmsgd is lost", "xenmsgd is there again"


def begin(node, tmp_path, *command, binds):
    """A command that has bound this, whose standard error is a file, and which file."""
    path = tmp_path / f"{'-'.join(command[:2])}.err"
    with open(path, "wb") as err:
        return node.popen(*command, lasting=True, stderr=err, binds=binds), path


def ended(process, how=signal.SIGTERM):
    process.send_signal(how)
    out, _ = process.communicate(timeout=20 * PATIENCE)
    return out.decode()


def restart(node, how):
    getattr(node, how)()
    node.start()


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_recv_goes_on_with_the_next_daemon(one, two, tmp_path, memory, how):
    process, err = begin(two, tmp_path, "recv", "first", "second", binds=("first", "second"))
    one.send("2:first", "before")
    for times in range(1, 4):
        restart(two, how)
        eventually(lambda: err.read_text().count(BACK) == times, "it is back")
        for endpoint in ("first", "second"):
            one.send(f"2:{endpoint}", f"{endpoint} {times}")
    assert ended(process).splitlines() == ["before"] + [f"{name} {i}" for i in range(1, 4) for name in ("first", "second")]
    assert [line.split(": ")[1] for line in err.read_text().splitlines()] == ["recv on first, second"] * 6
    assert err.read_text().count(LOST) == 3


def test_what_is_sent_before_it_is_back_has_one_outcome(one, two, tmp_path):
    """The receiver's daemon is killed: each command says what became of its message, which waits as long as it may."""
    process, err = begin(two, tmp_path, "recv", "inbox", binds="inbox")
    sent = []
    for times in range(3):
        two.kill()
        early = one.xenmsg("send", "--timeout", 2, "2:inbox", f"early {times}")
        two.start()
        eventually(lambda: err.read_text().count(BACK) == times + 1, "it is back")
        one.send("2:inbox", f"late {times}")
        sent += [f"early {times}"] * (early.returncode == EXIT_OK) + [f"late {times}"]
    assert ended(process).splitlines() == sent


def test_serve_answers_after_its_daemon_was_killed(one, two, tmp_path, memory):
    process, err = begin(two, tmp_path, "serve", "upper", "--", "tr", "a-z", "A-Z", binds="upper")
    restart(two, "kill")
    eventually(lambda: BACK in err.read_text(), "it is back")
    done = one.xenmsg("call", "2:upper", "abc")
    assert (done.returncode, done.stdout) == (EXIT_OK, b"ABC")
    ended(process)


def test_listen_waits_for_its_stream_over_a_restart(one, two, tmp_path):
    single, err = begin(two, tmp_path, "listen", "single", binds="single")
    many, many_err = begin(two, tmp_path, "listen", "many", "--", "tr", "a-z", "A-Z", binds="many")
    restart(two, "kill")
    eventually(lambda: BACK in err.read_text() and BACK in many_err.read_text(), "both are back")
    assert one.xenmsg("connect", "2:many", data=b"abc").stdout == b"ABC"
    assert one.xenmsg("connect", "2:single", data=b"abc").returncode == EXIT_OK
    assert single.communicate(timeout=20 * PATIENCE)[0] == b"abc"
    ended(many)


def test_a_stream_waits_for_a_daemon_that_stands_still(nodes, tmp_path):
    """Longer than it may take to answer: the stream waits on, and the listener isn't told that there is no daemon."""
    from python_module import LONG, xenmsg

    one = nodes(1)[1]
    process, _ = begin(one, tmp_path, "listen", "single", binds="single")
    with xenmsg.blocking.open(one.socket, reconnect=True) as conn, conn.listen("other") as listener:
        with pytest.raises(xenmsg.TimedOut):
            listener.accept(timeout=0)  # it is bound now
        process.send_signal(signal.SIGSTOP)
        clients = [one.popen("connect", f"self:{name}", stdin=subprocess.PIPE) for name in ("single", "other")]
        eventually(lambda: [stream["state"] for stream in one.status()["streams"]].count("waiting") == 2, "both streams wait")
        with stopped(one.pid):
            process.send_signal(signal.SIGCONT)
            with pytest.raises(xenmsg.TimedOut):
                listener.accept(timeout=12)  # the library gives the daemon 10 s
            assert process.poll() is None
        stream, _ = listener.accept(timeout=LONG)
        stream.close()
        for client in clients:
            client.communicate(timeout=LONG)
            assert client.returncode == EXIT_OK
        assert process.wait(timeout=LONG) == EXIT_OK


def test_watch_begins_anew_with_the_next_daemon(one, two, tmp_path):
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        process = one.popen("watch", "--json", "2", lasting=True, stdout=out, stderr=err)

    def seen():
        events = map(json.loads, (tmp_path / "out").read_text().splitlines())
        return [event["event"] for event in events if event["kind"] == "domain"]
    eventually(lambda: seen() == ["up"], "domain 2 is up")
    restart(one, "kill")
    eventually(lambda: seen() == ["up", "up"], "it is told again")
    two.stop()
    eventually(lambda: seen() == ["up", "up", "down"], "it has gone")
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=20 * PATIENCE)
    assert BACK in (tmp_path / "err").read_text()


def test_forward_from_an_endpoint_listens_again(one, two, tmp_path):
    path = f"{tmp_path}/target"
    with socket.socket(socket.AF_UNIX) as target:
        target.bind(path)
        target.listen(4)
        process, err = begin(two, tmp_path, "forward", "xen:door", f"unix:{path}", binds="door")
        restart(two, "kill")
        eventually(lambda: BACK in err.read_text(), "it is back")
        client = one.popen("connect", "2:door", stdin=subprocess.PIPE)
        target.settimeout(20 * PATIENCE)
        conn, _ = target.accept()
        with conn:
            conn.sendall(b"welcome")
            conn.shutdown(socket.SHUT_WR)
            assert client.communicate(b"", timeout=20 * PATIENCE)[0] == b"welcome"
    ended(process)


def test_an_endpoint_that_another_took_meanwhile_ends_it(one, tmp_path):
    process, err = begin(one, tmp_path, "recv", "inbox", binds="inbox")
    process.send_signal(signal.SIGSTOP)
    restart(one, "kill")
    other = one.receiver("inbox")
    process.send_signal(signal.SIGCONT)
    assert process.wait(timeout=20 * PATIENCE) == 1
    assert "has bound" in err.read_text().splitlines()[-1]
    other.stop()


def test_once_ends_with_the_daemon(one, tmp_path):
    started = [one.popen(*words) for words in (["recv", "a"], ["serve", "b", "--", "cat"], ["listen", "c"], ["watch"],
                                               ["forward", "xen:d", f"unix:{tmp_path}/none"])]
    eventually(lambda: {"a", "b", "c", "d"} <= set(one.endpoints()), "all are there")
    deadline = time.monotonic() + 20 * PATIENCE
    one.kill()
    assert [process.wait(timeout=max(1, deadline - time.monotonic())) for process in started] == [9] * 5


@pytest.mark.slow
def test_each_message_has_one_outcome_over_many_kills(nodes):
    """Both programs outlive their daemons, which are killed and stopped at random: what was delivered came once, what wasn't never."""
    from python_module import LONG, run, soon, xenmsg

    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    chance = random.Random(seed)
    one, two = nodes(1, 2).values()
    came, outcomes, sent = collections.Counter(), {}, 0

    async def receive(inbox):
        while True:
            message = await inbox.recv()
            came[int(bytes(message))] += 1

    async def settle(number, outcome):
        try:
            await outcome
            outcomes[number] = xenmsg.Fate.DONE
        except xenmsg.Error as error:
            outcomes[number] = error.fate
        return outcomes[number]

    async def post(sender):
        nonlocal sent
        number, sent = sent, sent + 1
        return asyncio.create_task(settle(number, await sender.post("2:inbox", b"%d" % number)))

    async def main():
        async with xenmsg.open(one.socket, reconnect=True) as sender, xenmsg.open(two.socket, reconnect=True) as receiver:
            async with receiver.bind("inbox") as inbox:
                receiving = asyncio.create_task(receive(inbox))
                tasks = set()
                for node in chance.choices((one, two), k=12):
                    ending = asyncio.create_task(asyncio.to_thread(restart, node, chance.choice(("kill", "stop"))))
                    while not ending.done():
                        tasks.update([await post(sender) for _ in range(chance.randrange(20))])
                        await asyncio.sleep(0.001)
                    await ending
                    while await (await post(sender)) is not xenmsg.Fate.DONE:
                        await asyncio.sleep(0.01)
                await asyncio.wait_for(asyncio.gather(*tasks), LONG)
                await soon(lambda: all(came[number] for number, fate in outcomes.items() if fate is xenmsg.Fate.DONE), "all that was delivered came")
                receiving.cancel()
    run(main())
    assert sorted(outcomes) == list(range(sent)) and sent > 100
    assert max(came.values()) == 1
    assert not [number for number, fate in outcomes.items() if fate is xenmsg.Fate.NOT_DONE and came[number]]
