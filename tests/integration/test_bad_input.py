# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever a program, a peer or a person does wrong: a clear answer, the offender alone is cut off, all others go on."""

import contextlib
import errno
import os
import random
import re
import socket
import struct
import subprocess
import threading

import pytest

from frames import (BECOMES_STREAM, BIND, DATA, FIN, HELLO, OPEN, PING, REPLY, RESET, SHARED_MEMORY, SUBSCRIBE, UNBIND,
                    WELCOME, Closed, bind_payload, frame, hello, message, open_frame, u32)
from library import Connection
from messaging import EXIT_ERROR, EXIT_NO_DAEMON, EXIT_USAGE, GIVES_UP, PATIENCE, Holder, advised, eventually, stopped, tool, works
from polling import writable
from protocol import EBUSY, EINVAL, ENOENT, EPROTO, Program, Timeout


@pytest.fixture(name="pair")
def two_domains_with_traffic(nodes):
    """Two domains whose daemons must survive the test with all that others were doing."""
    one, two = nodes(1, 2).values()
    works(one, two)
    descriptors = one.descriptors()
    with Program(one.socket) as bystander:
        bystander.bind("bystander")
        yield one, two
        assert "bystander" in bystander.query("status")
    assert one.alive() and two.alive()
    works(one, two)
    eventually(lambda: one.descriptors() <= descriptors, "what the offender held is closed")


@pytest.fixture(name="one")
def node_that_is_not_started(nodes):
    return nodes(1, start=False)[1]


# ---- what people type ----

def test_an_unknown_option_is_wrong_usage(nodes):
    one = nodes(1)[1]
    for command in (["send", "--loud", "self:inbox", "x"], ["recv", "--loud", "inbox"], ["--loud"], ["shout"], ["send"],
                    ["recv", "--count", "many", "inbox"], ["send", "--timeout", "soon", "self:inbox", "x"]):
        done = one.xenmsg(*command)
        assert done.returncode == EXIT_USAGE, (command, done.stderr)
        assert done.stdout == b"" and done.stderr
    assert b"'-5'; a negative number stands behind --" in one.xenmsg("send", "self:inbox", "-5").stderr


def test_a_socket_path_that_is_too_long_is_named(one, tmp_path):
    path = str(tmp_path) + "/" + "x" * 108
    done = one.xenmsg("status", "--socket", path)
    assert done.returncode != 0 and path in done.stderr.decode()
    done = one.run_command(tool("xenmsgd"), "--socket", path)
    assert done.returncode == EXIT_USAGE and b"107" in done.stderr


def test_what_is_no_socket_is_not_taken_for_a_daemon_and_stays(one, tmp_path):
    file = tmp_path / "precious"
    file.write_text("data")
    for path in (file, tmp_path):
        done = one.run_command(tool("xenmsgd"), "--socket", path)
        assert done.returncode == EXIT_ERROR
        assert f"{path} is there and is no socket" in done.stderr.decode() and b"another daemon" not in done.stderr
    assert file.read_text() == "data"


def test_the_doctor_says_what_is_where_the_socket_belongs(one, tmp_path):
    (tmp_path / "file").write_text("data")
    with socket.socket(socket.AF_UNIX) as others:
        others.bind(str(tmp_path / "others"))
        others.listen()
        then = "or listen elsewhere; then: " + advised("start", "xenmsgd")
        for name, mend in (("file", f"remove it, {then}"), ("others", f"stop it (kill {os.getpid()}), {then}"),
                           ("none", f"start one that listens there: xenmsgd --socket {tmp_path}/none")):
            done = one.xenmsg("doctor", "--socket", tmp_path / name)
            assert done.returncode == EXIT_NO_DAEMON and f"mend: {mend}" in done.stdout.decode(), done


def test_a_directory_unfit_for_the_socket_is_named_with_a_cure(one, tmp_path):
    path = tmp_path / "nowhere" / "s"
    done = one.run_command(tool("xenmsgd"), "--socket", path)
    errors = [line for line in done.stderr.decode().splitlines() if " error: " in line]
    assert done.returncode == EXIT_ERROR and len(errors) == 1, done
    assert f"can't listen on {path}: No such file or directory; " in errors[0]
    assert errors[0].endswith(("where xenmsgd.socket makes the socket", "start the service xenmsgd, which makes it"))


@pytest.mark.parametrize("lacks", ["its lock", "its socket"])
def test_on_a_read_only_run_daemon_and_doctor_name_one_cure(one, tmp_path, lacks):
    lock, sockets = os.path.join(one.environment["XENSIM_DIR"], "dom-1", "root", "run"), tmp_path / "sockets"
    os.makedirs(lock, exist_ok=True)
    sockets.mkdir()
    # the doctor looks at the machine's own /run
    places, named = ([lock, "/run"], "/run") if lacks == "its lock" else ([sockets], sockets)
    mounts = " && ".join(f"mount --bind {place} {place} && mount -o remount,bind,ro {place}" for place in places)
    shut = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    if subprocess.run([*shut, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    daemon, doctor = (subprocess.run([*shut, *one.command(*command, "--socket", sockets / "s")], env=one.environment,
                                     capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
                      for command in ([tool("xenmsgd")], [tool("xenmsg"), "doctor"]))
    errors = [line for line in daemon.stderr.splitlines() if " error: " in line]
    cure = f"mount -o remount,rw $(findmnt -n -o TARGET -T {named})"
    assert len(errors) == 1 and f"Read-only file system; {cure}" in errors[0], daemon
    assert f"mend: {cure}\n" in doctor.stdout, doctor


def test_the_doctor_names_a_label_that_selinux_denies(one):
    """Where that enforces, as a file says here, and only there. Labels are the file system's, also without SELinux."""
    prepare = """import os
os.makedirs("/etc/xenmsg/policy.d")
os.makedirs("/sys/fs/selinux")
for path, kind in (("/etc", "etc_t"), ("/etc/xenmsg", "etc_t"), ("/etc/xenmsg/policy.d", "etc_t"), ("/etc/xenmsg/policy.d/a.conf", "user_home_t")):
    if path.endswith("conf"):
        open(path, "w").close()
    os.setxattr(path, "security.selinux", f"system_u:object_r:{kind}:s0".encode())
"""
    shut = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /etc && mount -t tmpfs tmpfs /sys/fs && python3 -c "$1" && shift && exec "$@"',
            "sh", prepare]
    if subprocess.run([*shut, "true"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted or labelled here")
    for enforces in (1, 0):
        doctor = subprocess.run([*shut, "sh", "-c", 'echo "$0" >/sys/fs/selinux/enforce && exec "$@"', str(enforces),
                                 *one.command(tool("xenmsg"), "doctor")], env=one.environment, capture_output=True, text=True,
                                timeout=60 * PATIENCE, check=False)
        found = re.findall(r"^warn +access +SELinux may deny (\S+), .*user_home_t.*\n +mend: (.*)$", doctor.stdout, re.M)
        assert found == [("/etc/xenmsg/policy.d/a.conf", "restorecon -Rv /etc/xenmsg")] * enforces, doctor


def test_a_daemon_whose_queue_is_full_still_has_its_socket(one, tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as waiting:
        busy.bind(path)
        busy.listen(0)
        for _ in range(3):
            program = waiting.enter_context(socket.socket(socket.AF_UNIX))
            program.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                program.connect(path)
        done = one.run_command(tool("xenmsgd"), "--socket", path)
        assert done.returncode == EXIT_ERROR and f"another daemon listens on {path}" in done.stderr.decode()


@pytest.mark.parametrize("text, complaint", [
    ("[links]\nring-sise = 64K\n", "{path}:2: unknown key ring-sise"),
    ("[daemon]\nuser = nobody-of-that-name\n", "{path}:2: user = nobody-of-that-name: must be the name of a user that exists"),
    (None, "{path}: can't be read: No such file or directory"),
])
def test_a_bad_configuration_stops_the_daemon_with_file_and_line(one, tmp_path, text, complaint):
    path = tmp_path / "bad.conf"
    if text is not None:
        path.write_text(text)
    for options in (["--check-config"], []):
        done = one.run_command(tool("xenmsgd"), "--config", path, *options)
        assert done.returncode == EXIT_USAGE
        assert complaint.format(path=path) in done.stderr.decode()


def test_an_administrators_files_are_read_behind_the_packages(one):
    for name, text in (("10-a.conf", "presence = private"), ("20-b.conf", "peers = 3")):
        one.write_policy(f"[links]\n{text}\n", name, "xenmsgd.conf.d")
    assert one.run_command(tool("xenmsgd"), "--check-config").returncode == 0
    one.write_policy("[links]\npresence = public\n", "30-c.conf", "xenmsgd.conf.d")
    done = one.run_command(tool("xenmsgd"), "--check-config")
    assert done.returncode == EXIT_USAGE
    assert "/etc/xenmsg/xenmsgd.conf.d/30-c.conf:2: peers is only for presence = private" in done.stderr.decode()


# ---- local programs ----

@pytest.mark.parametrize("flags", [0, SHARED_MEMORY, BECOMES_STREAM], ids=["socket", "rings", "stream"])
def test_who_goes_before_its_welcome_is_not_called_refused(pair, flags):
    one, _ = pair
    with stopped(one.pid), Program(one.socket, greet=False) as program:
        program.socket.sendall(hello(flags=flags))
    eventually(lambda: len(one.status()["clients"]) == 2, "its session has ended")  # this one and the bystander are left
    assert "refused" not in one.log.read_text()


def test_a_later_minor_version_with_more_fields_is_welcome(pair):
    with Program(pair[0].socket, greet=False) as program:
        program.socket.sendall(frame(HELLO, struct.pack("<HHI", 1, 7, 0) + b"more"))
        welcome = program.receive()
        assert welcome.kind == WELCOME
        assert struct.unpack_from("<HH", welcome.payload) == (1, 0)


VIOLATIONS = {
    "a second HELLO": hello(),
    "a length over the limit": frame(DATA, bytes(32), length=0x80000000),
    "unknown type": frame(99, bytes(8)),
    "a frame of the daemon's": frame(REPLY, bytes(8)),
    "a frame of the link's": frame(PING, bytes(8)),
    "data without a channel": frame(DATA, bytes(64), channel=4),
    "an odd channel": open_frame(1, "self:inbox"),
    "a channel number over the limit": open_frame(65536, "self:inbox"),
    "a channel number in use": 2 * open_frame(0, "self:bystander"),
    "a short open": frame(OPEN, b"\1", channel=0),
    "a short bind": frame(BIND, b"\1", channel=0),
    "data beyond the credit": open_frame(0, "self:bystander") + b"".join(
        frame(DATA, bytes(8192), channel=0) for _ in range(9)),
    "data that tears messages": open_frame(0, "self:bystander") + 2 * frame(DATA, bytes(4), channel=0),
    "a fin that lies": open_frame(0, "self:bystander") + frame(FIN, (500).to_bytes(8, "little"), channel=0),
}


@pytest.mark.parametrize("shared", [False, True], ids=["socket", "rings"])
def test_a_violation_ends_the_session_with_a_reason(pair, shared):
    for what, bytes_ in VIOLATIONS.items():
        with Program(pair[0].socket, shared) as program:
            program.send_bytes(bytes_)
            error, text = program.goodbye()
            assert error == (EBUSY if what == "a second HELLO" else EPROTO) and text, (what, error, text)


def test_a_malformed_address_ends_the_channel_only(pair):
    with Program(pair[0].socket) as program:
        for number, address in enumerate(("", "inbox", "2:in.box", "2:" + "x" * 64, "x" * 200 + ":inbox", "2:in\0box", "ä:ö")):
            program.open(address, 2 * number)
            assert program.expect(RESET).u32() == EINVAL, address
        assert "bystander" in program.query("status")


def test_bad_questions_are_answered_with_an_error(pair):
    with Program(pair[0].socket) as program:
        for what in (b"", b"secrets", b"watch a:b:c:\xff", b"watch ", b"endpoints  ", b"endpoints \xff\xff", b"x" * 60000):
            error, _ = program.ask(what)
            assert error != 0, what
        for what in (b"never-bound", b"self:never-subscribed", b"", b":", b"x" * 60000 + b":"):
            error, _ = program.request(UNBIND, what)
            assert error == ENOENT, what
        assert "bystander" in program.query("status")


@pytest.mark.unless(renewed="counts")
def test_a_program_has_at_most_64_requests_unanswered(nodes):
    one, two, three = nodes(1, 2, 3, config=GIVES_UP).values()
    with stopped(two.pid), stopped(three.pid), Program(one.socket) as program:
        program.send_bytes(b"".join(frame(SUBSCRIBE, u32(0) + f"{2 + number % 2}:t{number}".encode(), channel=number) for number in range(1, 66)))
        refused = program.expect(REPLY)
        assert (refused.channel, refused.u32()) == (65, errno.ENOBUFS)
        program.bind("goes-on", number=65)
        assert {program.expect(REPLY).u32() for _ in range(64)} == {0}  # from then on it waits for the topic
        program.query("status")


@pytest.mark.parametrize("shared", [False, True], ids=["socket", "rings"])
def test_hostile_messages_reach_only_a_receiver_that_checks(pair, shared):
    """The daemon doesn't look into streams; the library at the other end resets the channel."""
    one, two = pair
    for stream in (message(b"x", size=0xFFFFFFFF), message(b"x", kind=77), message(b"x", state=9)):
        with Connection(two.socket) as receiver, Program(one.socket, shared) as program:
            assert receiver.bind("inbox") == 0
            program.open("2:inbox")
            program.data(0, stream)

            def is_reset():
                assert not hasattr(receiver.receive(10), "data")  # noqa: B023
                with contextlib.suppress(Timeout):
                    return program.expect(RESET, channel=0, timeout=0.01)  # noqa: B023
            eventually(is_reset, "the library has looked at it")
            with Connection(one.socket) as good:
                answers = []
                assert good.post("2:inbox", b"good", answers.append) == 0
                assert receiver.receive().data == b"good"


RING_CORRUPTIONS = {
    "producer far ahead": lambda program: setattr(program.out, "producer", program.out.index + 0x10000000),
    "producer goes back": lambda program: setattr(program.out, "producer", program.out.index - 8),
    "producer in a frame": lambda program: (program.out.put(frame(UNBIND, b"self", channel=1), publish=False),
                                            setattr(program.out, "producer", program.out.index - 8)),
    "producer unaligned": lambda program: setattr(program.out, "producer", program.out.index + 3),
    "consumer of in ahead": lambda program: setattr(program.incoming, "consumer", program.incoming.producer + 8),
    "consumer of in far back": lambda program: setattr(program.incoming, "consumer", program.incoming.consumer - 0x1000000),
    "consumer of deliveries ahead": lambda program: setattr(program.deliveries, "consumer", program.deliveries.producer + 64),
}


def test_a_corrupted_ring_ends_the_session_with_a_reason(pair):
    for what, corrupt in RING_CORRUPTIONS.items():
        with Program(pair[0].socket, shared=True) as program:
            program.bind("victim")
            corrupt(program)
            program.notify()
            # the index of `deliveries` is looked at when something is delivered, not before
            with Program(pair[0].socket) as sender:
                sender.open("self:victim")
                sender.data(0, message(b"x"))
                error, text = program.goodbye()
                sender.expect(RESET)
            assert error == EPROTO and text, what


def test_who_scribbles_over_shared_memory_harms_only_itself(pair):
    one, two = pair
    noise = random.Random(11)
    for _ in range(10):
        with Program(one.socket, shared=True) as program:
            program.bind("scribbler")
            sender = Program(one.socket)
            sender.open("self:scribbler")
            sender.data(0, message(b"x"))
            try:
                for _ in range(50):
                    at = noise.randrange(len(program.memory) - 64)
                    program.memory[at:at + 64] = noise.randbytes(64)
                    control = noise.choice(program.rings).control
                    program.memory[control:control + 256] = noise.randbytes(256)
                    program.notify()
                program.goodbye()
            except (Closed, OSError):
                pass
            sender.close()
    works(one, two)


def test_shared_memory_cannot_be_resized_by_a_program(pair):
    with Program(pair[0].socket, shared=True) as program:
        with pytest.raises(OSError):
            os.ftruncate(program.descriptors[0], 4096)


def test_a_program_that_does_not_read_its_answers_is_cut_off(pair):
    one, two = pair
    with Program(one.socket) as program:
        program.socket.settimeout(5)
        try:
            for _ in range(2000):
                program.socket.sendall(frame(UNBIND, b"self", channel=1) * 20)
        except OSError:
            pass
        works(one, two)


# ---- peers ----

def hostile(node, peer, mode):
    return node.popen_command(tool("hostile-peer"), peer.domid, mode, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answers(process):
    """What the daemon said until it hung up."""
    timer = threading.Timer(40 * PATIENCE, process.kill)
    timer.start()
    lines = process.stdout.read().splitlines()  # it ends by itself
    timer.cancel()
    print("\n".join(lines[:20]))
    assert lines and lines[0] == "CONNECTED", (lines, process.wait(), process.stderr.read())
    assert lines[-1].startswith("CLOSED"), (lines, process.wait(), process.stderr.read())
    return lines[1:-1]


@pytest.fixture(name="hosts", params=[pytest.param(domid, marks=pytest.mark.unless(relayed="direct", away="counts"), id=they)
                                      for domid, they in ((3, "they-grant"), (0, "they-map"))])
def daemons_and_a_hostile_domain(request, nodes):
    if request.param == 3:
        one, two, bad = nodes(1, 2, 3, start=False).values()
    else:
        bad, one, two = nodes(0, 1, 2, start=False).values()
    one.start()
    two.start()
    works(one, two)
    descriptors = one.descriptors()
    yield one, bad
    assert one.alive() and two.alive()
    works(one, two)
    eventually(lambda: one.descriptors() <= descriptors, "what the link held is closed")


@pytest.mark.unless(small="rings")
@pytest.mark.parametrize("mode", ["garbage", "beyond-credit"])
def test_who_breaks_the_protocol_loses_its_link_with_a_reason(hosts, mode):
    one, bad = hosts
    with Holder(one, "inbox"):
        got = answers(hostile(bad, one, mode))
        assert any(line.startswith(f"GOODBYE {EPROTO} ") for line in got), got


def test_another_major_version_is_told_from_a_broken_peer(hosts):
    one, bad = hosts
    got = answers(hostile(bad, one, "version"))
    goodbye = next(line for line in got if line.startswith("GOODBYE"))
    told = f"domain {bad.domid} speaks protocol 2, this daemon 1; run the same version of xenmsgd in both"
    assert told in goodbye and told in one.log.read_text()


@pytest.mark.parametrize("mode", ["producer", "live"])
def test_a_peer_that_corrupts_the_shared_page_loses_its_link(hosts, mode):
    one, bad = hosts
    answers(hostile(bad, one, mode))
    assert one.status()["links"] is not None


def test_a_daemon_stops_in_order_while_programs_bind_without_end(nodes):
    """What is bound is advertised later in the pass, or in the next one: that may be the daemon's last one."""
    node = nodes(1)[1]
    over = threading.Event()
    counts = [0, 0, 0]

    def bind_on(program, number):
        frames = b"".join(frame(BIND, bind_payload(b"e%d" % number), channel=1)
                          + frame(UNBIND, b"e%d" % number, channel=2) for _ in range(40))
        rest = b""
        program.socket.setblocking(False)
        with contextlib.suppress(ConnectionError):
            while not over.is_set():
                writable(program.socket, 0.1, or_readable=True)
                rest = rest or frames
                with contextlib.suppress(BlockingIOError):
                    rest = rest[program.socket.send(rest):]
                with contextlib.suppress(BlockingIOError):
                    counts[number] += len(program.socket.recv(1 << 20))

    programs = [Program(node.socket) for _ in counts]
    threads = [threading.Thread(target=bind_on, args=(program, number)) for number, program in enumerate(programs)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: min(counts) > 100000, "all of them are answered")
        node.stop()
    finally:
        over.set()
        for thread in threads:
            thread.join()
        for program in programs:
            program.close()
