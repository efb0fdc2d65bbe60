# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs written for vchans run over xenmsg unchanged (vchan/): check-vchan, which knows libxenvchan alone, Debian's
vchan-socket-proxy, and libvchan's interface. What both have is compared with stock libxenvchan."""

import errno
import glob
import grp
import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from conftest import Conversation
from frames import receive_exactly
from installed import BINDIR, is_sanitized, program
from messaging import PATIENCE, SOURCES, eventually, open_to_others, tool

PATH = "data/vchan/2/7"
FAR = f"/local/domain/1/{PATH}"
NAME = "vchan-2-7"
GONE, OPEN, WAITS = range(3)
PROXY = next(iter(sorted(glob.glob("/usr/lib/xen-*/bin/vchan-socket-proxy"))), None)


def converse(node, *words):
    """check-vchan, by xenmsg vchan."""
    process = node.popen_command(tool("xenmsg"), "vchan", "--", program("check-vchan"), *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    talk = Conversation(process)
    talk.first = talk.answer()
    return talk


def server(node, left=65536, right=65536, path=PATH, peer=2):
    talk = converse(node, "server", peer, path, left, right)
    assert talk.first == "ok 0", talk.first
    return talk


def client(node, path=FAR):
    talk = converse(node, "client", 1, path)
    assert talk.first == "ok 0", talk.first
    return talk


def goes(talk, *words, wanted):
    eventually(lambda: talk.ok(*words) == wanted, f"{words} is {wanted}")


def is_readable(talk, within=0):
    """Whether an event was there, which is taken then."""
    return talk.ok("wait", within) == 1


def awaits(talk, *words, wanted):
    """As a program does that sleeps until there is an event."""
    while talk.ok(*words) != wanted:
        assert talk.ok("wait", int(30000 * PATIENCE)) == 1, f"no event, and {words} isn't {wanted}"


@pytest.mark.skipif(not PROXY or is_sanitized(), reason="needs vchan-socket-proxy (xen-utils-4.17), and no sanitizer, which it isn't built with")
def test_the_proxy_of_debian_serves_client_after_client(one, two, tmp_path):
    paths = [str(tmp_path / end) for end in ("far", "near")]
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(paths[0])
    listener.listen()
    one.popen("vchan", "--", PROXY, "-m", "server", "2", PATH, paths[0], binds=NAME)
    two.popen("vchan", "--", PROXY, "1", FAR, paths[1])
    eventually(lambda: os.path.exists(paths[1]), "the client's socket")
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as near:
            eventually(lambda near=near: near.connect_ex(paths[1]) == 0, "the client listens")
            far, _ = listener.accept()
            with far:
                data = os.urandom(300000)
                threading.Thread(target=near.sendall, args=(data,)).start()
                assert receive_exactly(far, len(data)) == data
                far.sendall(data[:100000])
                assert receive_exactly(near, 100000) == data[:100000]
                near.close()
                assert far.recv(1) == b""


@pytest.fixture(name="ends", params=[pytest.param("stock", marks=pytest.mark.unless(relayed="maps")), "ours"])
def both_ends(request, host, nodes):
    """A server in domain 1 with rings of 4096 bytes and its client in domain 2, by stock libxenvchan and by ours."""
    if request.param == "stock":
        far = host.vchan_server(1, 2, PATH, 4096, 4096)
        return far, lambda: host.vchan_client(2, 1, FAR)
    both = nodes(1, 2)
    return server(both[1], 4096, 4096), lambda: client(both[2])


def test_what_is_written_before_the_client_comes_is_delivered(ends):
    far, connect = ends
    assert far.ok("open") == WAITS and far.ok("space") == 4096
    assert far.ok("write", 100) == 100 and far.ok("space") == 3996
    near = connect()
    assert near.ok("recv", 100) == 100
    awaits(far, "space", wanted=4096)
    assert far.ok("open") == OPEN and near.ok("open") == OPEN


def test_the_descriptor_tells_of_each_new_byte_once(ends):
    far, connect = ends
    near = connect()
    awaits(far, "open", wanted=OPEN)
    while is_readable(far, 50):
        pass
    assert far.ok("ready") == 0
    near.ok("write", 10)
    assert is_readable(far, 10000) and not is_readable(far, 100)
    assert far.ok("ready") == 10  # it is told though they are unread
    near.ok("write", 1)
    assert is_readable(far, 10000) and not is_readable(far)
    assert far.ok("recv", 11) == 11


def test_all_or_nothing_and_blocking_as_there(ends):
    far, connect = ends
    near = connect()
    for end in (far, near):
        end.ok("blocking", 0)
    assert near.ok("read", 10) == 0 and near.ok("recv", 10) == 0
    assert far.ok("send", 5000) == 0  # larger than the ring
    assert far.ok("send", 4000) == 4000
    goes(near, "ready", wanted=4000)
    assert near.ok("recv", 4001) == 0 and near.ok("recv", 4000) == 4000
    far.ok("blocking", 1)
    assert far.ask("send", 5000).startswith("error")


def test_room_is_told_after_a_short_write(ends):
    """To a reader that doesn't read, so that it must come to that, and then reads all."""
    far, connect = ends
    near = connect()
    far.ok("blocking", 0)
    sent = 0
    while (n := far.ok("write", 1 << 20)) > 0 or far.ok("wait", 200) > 0:
        sent += n
    assert sent >= 4096
    assert 0 <= far.ok("space") < 4096
    got = 0
    while got < sent:
        got += near.ok("read", 65536)
    awaits(far, "space", wanted=4096)


def test_an_end_is_seen_at_once_and_what_came_before_is_read(ends):
    far, connect = ends
    near = connect()
    assert near.ok("write", 1000) == 1000
    near.ok("close")
    awaits(far, "open", wanted=GONE)
    assert far.ok("ready") == 1000 and far.ask("write", 1).startswith("error")  # which isn't an end of reading
    assert far.ok("recv", 1000) == 1000
    assert far.ask("read", 1).startswith("error")
    near = connect()
    awaits(far, "open", wanted=OPEN)
    assert near.ok("text", "again") == 5
    assert far.ok("gettext", 9) == "again"


class Qubes:
    """A program for Qubes' libvchan in a domain."""

    def __init__(self, node):
        library = os.path.join(os.path.dirname(BINDIR), "lib", "libvchan-xenmsg.so.1")
        self.process = node.popen_command(sys.executable, os.path.join(SOURCES, "tests/integration/vchan_program.py"), library,
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.talk = Conversation(self.process)

    def __call__(self, line):
        return self.talk.ask(line)

    def server(self, port=7, peer=2, size=4096):
        return self(f"s = server_init({peer}, {port}, ctypes.c_size_t({size}), ctypes.c_size_t({size})) or failed()")

    def client(self, port=7, peer=1):
        return self(f"c = client_init({peer}, {port}) or failed()")


MADE = "None"


def test_a_server_of_qubes_has_one_client_and_frees_its_name(one, two):
    far, near = Qubes(one), Qubes(two)
    assert far.server() == MADE and Qubes(one).server() == f"error {errno.EEXIST}"
    assert near.client() == MADE
    far("wait(s)")
    assert far("is_open(s)") == near("is_open(c)") == "1"
    eventually(lambda: Qubes(one).server() == MADE, "the name is free")
    assert near("send(c, b'more', 4)") == "4" and far("got(s, 4, 'recv')") == "b'more'"
    near("close(c)")
    eventually(lambda: far("is_open(s)") == "0", "its client has gone")
    assert far("got(s, 1)") == f"error {errno.EPIPE}"


def test_a_client_waits_for_its_server_by_a_descriptor(one, two):
    near, far = Qubes(two), Qubes(one)
    near("fd = ctypes.c_int(); c = client_init_async(1, 8, ctypes.byref(fd)); fd = fd.value")
    assert near("FINISH(c, True)") == "1" and near("is_open(c)") == "2" and near("write(c, b'x', 1)") == "-1"
    assert far.server(8) == MADE
    assert near("ready(fd, 60000)") == "True" and near("FINISH(c, True)") == "0"
    assert far("write(s, b'hello', 5)") == "5" and near("got(c, 5, 'recv')") == "b'hello'"


def test_a_child_serves_when_its_parent_has_ended(one, two):
    far, near = Qubes(one), Qubes(two)
    assert far.server() == MADE and far("write(s, b'early', 5)") == "5"
    assert far("child('', leaves=True)") == "None"
    assert far("is_open(s)") == "2"
    assert near.client() == MADE and near("got(c, 5, 'recv')") == "b'early'"
    assert near("send(c, b'to it', 5)") == "5" and far("got(s, 5, 'recv')") == "b'to it'"


def test_a_child_that_does_not_use_a_vchan_does_not_hold_it(one, two):
    far, near = Qubes(one), Qubes(two)
    assert far.server() == MADE and near.client() == MADE
    assert far.server(9) == MADE
    assert int(far("child('time.sleep(100)')"))
    far.process.kill()
    eventually(lambda: near("is_open(c)") == "0", "its server has gone")
    assert Qubes(one).server(9) == MADE


def test_a_program_that_closes_the_library_lives_on(one, two):
    """The library's thread runs in it."""
    far, near = Qubes(one), Qubes(two)
    assert far.server() == MADE and near.client() == MADE
    far("none = __import__('_ctypes').dlclose(lib._handle)")
    assert near("write(c, b'hello', 5)") == "5" and far("got(s, 5)") == "b'hello'"


def test_a_stranger_is_not_connected_and_a_denied_one_fails(one, two, three):
    far = Qubes(one)
    assert far.server() == MADE
    assert three.xenmsg("connect", "1:" + NAME, data=b"x").returncode != 0 and far("is_open(s)") == "2"
    one.set_policy("[rule]\nfrom = 3\nto = *\naction = allow\n")
    assert Qubes(two).client() == f"error {errno.EACCES}"
    assert NAME.encode() in one.xenmsg("policy", "denied").stdout
    assert far("is_open(s)") == "2"


def test_a_process_has_one_connection_for_hundreds_of_vchans(one, two):
    far, near = Qubes(one), Qubes(two)
    far("ss = [server_init(2, 1000 + i, ctypes.c_size_t(0), ctypes.c_size_t(0)) for i in range(333)]")
    assert far("all(ss)") == "True"
    near("cs = [client_init(1, 1000 + i) for i in range(333)]")
    assert near("[send(c, b'%03d' % i, 3) for i, c in enumerate(cs)] == [3] * 333") == "True"
    assert far("[got(s, 3, 'recv') for s in ss] == [b'%03d' % i for i in range(333)]") == "True"
    assert len(one.status()["clients"]) <= 3


def test_a_domain_that_is_gone_is_told_from_one_that_boots(one, nodes):
    far, near = nodes(2, start=False)[2], Qubes(one)
    assert near.client(peer=77) == f"error {errno.ESRCH}"
    assert near.server(peer=77) == MADE and near("[wait(s), is_open(s)]") == "[0, 0]" and near("got(s, 1)") == f"error {errno.ESRCH}"
    near("fd = ctypes.c_int(); c = client_init_async(2, 8, ctypes.byref(fd))")
    assert near("FINISH(c, True)") == "1"
    assert b'"is_there":true' in one.xenmsg("call", "self:xenmsg", "domain 2").stdout
    far.start()
    assert Qubes(far).server(8, peer=1) == MADE
    assert near("ready(fd.value, 60000)") == "True" and near("FINISH(c, True)") == "0"


def test_what_is_under_way_outlives_a_renewal_and_a_restore(one, two):
    """The writer is far ahead of the reader each time."""
    far, near = Qubes(one), Qubes(two)
    assert far.server(size=1 << 20) == MADE and near.client() == MADE
    near("data = os.urandom(5000000); none = lib.libvchan_set_blocking(ctypes.c_void_p(c), False)")
    for event in (lambda: one.xenmsg("daemon", "renew"), lambda: two.xenmsg("daemon", "renew"), two.save_and_restore):
        assert int(near("pour(c, data, 10)")) < 5000000
        event()

    def all_is_read():
        near("pour(c, data, 10)")
        return far("gulp(s)") == "5000000"
    eventually(all_is_read, "all is read")
    assert far("zlib.crc32(gulp.read)") == near("zlib.crc32(data)")


def test_bad_input_ends_in_an_error_and_harms_nothing(one, two):
    for peer, path, left, wanted in ((2, "", 0, errno.EINVAL), (2, "/local/domain/1/", 0, errno.EINVAL), (40000, PATH, 0, errno.EINVAL),
                                     (2, "data/vchan/" + 80 * "x", 0, errno.ENAMETOOLONG), (2, PATH, 1 << 31, errno.EINVAL)):
        if path:
            assert converse(one, "server", peer, path, left, 0).first == f"error {wanted}", path
    assert converse(two, "client", 1, FAR).first == f"error {errno.ENOENT}"
    done = two.run_command(tool("xenmsg"), "--socket", "/nowhere", "vchan", "--", program("check-vchan"), "client", 1, FAR)
    assert b"no connection to xenmsgd: " in done.stderr
    far = server(one)
    plain = two.popen("connect", "1:" + NAME, stdin=subprocess.PIPE)
    plain.stdin.write(b"plain")
    plain.stdin.flush()
    awaits(far, "ready", wanted=5)
    assert far.ok("gettext", 5) == "plain" and far.ok("text", "answer") == 6
    assert plain.stdout.read(6) == b"answer"
    plain.kill()
    awaits(far, "open", wanted=GONE)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run a program as somebody else")
def test_an_ordinary_user_serves_by_the_packages_rule_alone(one, two):
    """Members of one group may, and vchan-* only. Who may not is told which rule is missing."""
    open_to_others(one)
    group = next(each for each in grp.getgrall() if each.gr_gid)  # the package makes its own
    with open(os.path.join(SOURCES, "packaging/etc/policy.d/40-vchan.conf"), encoding="utf-8") as file:
        one.set_policy(file.read().replace("@xenmsg, @xenmsg-vchan", f"@{group.gr_name}"), "40-vchan.conf")

    def serves(*words, groups):
        done = one.run_command("setpriv", "--reuid=65534", "--regid=65534", groups, tool("xenmsg"), *words, data=b"close\n")
        return (done.stdout + done.stderr).decode()
    check = ["vchan", "--", program("check-vchan"), "server", 2, PATH, 0, 0]
    assert serves(*check, groups=f"--groups={group.gr_gid}") == "ok 0\nok 0\n"
    assert "[bind]" in serves("recv", "print", "-n", 1, groups=f"--groups={group.gr_gid}")
    told = serves(*check, groups="--clear-groups")
    assert f"error {errno.EACCES}" in told and f"xenmsg: {NAME}: no [bind] rule lets this user serve it" in told and "xenmsg-vchan" in told
    far = two.run_command(tool("xenmsg"), "vchan", "--", program("check-vchan"), "client", 1, FAR)
    assert b"can't meet a stock one" in far.stderr


def test_a_server_that_persists_is_open_all_the_time(ends):
    """As with server_persist there: what is written while there is no client is the next one's."""
    far, connect = ends
    far.ok("persist", 1)
    assert far.ok("open") == OPEN
    near = connect()
    assert near.ok("write", 10) == 10 and far.ok("recv", 10) == 10
    near.ok("close")
    while is_readable(far, 300):
        assert far.ok("open") == OPEN
    assert far.ok("open") == OPEN and far.ok("text", "later") == 5
    assert connect().ok("gettext", 5) == "later"


def fill(near):
    """Writes as much as there is room for. Returns how much that was."""
    near("data = os.urandom(8000000); none = lib.libvchan_set_blocking(ctypes.c_void_p(c), False)")
    before, poured = -1, 0
    while poured != before:
        before, poured = poured, int(near("pour(c, data, 20)"))
        time.sleep(0.1)
    assert 2 << 20 < poured < 8000000
    return str(poured)


@pytest.mark.parametrize("ends", ["process.kill()", "('close(c)')"])
@pytest.mark.parametrize("much", [False, True])
def test_an_end_with_more_unread_than_fits_is_seen_at_once(one, two, ends, much):
    """Also with more than all memory on the way holds, of which the writer's own keeps the rest."""
    far, near = Qubes(one), Qubes(two)
    assert far.server() == MADE and near.client() == MADE
    poured = fill(near) if much else near("send(c, os.urandom(300000), 300000)")
    eventually(lambda: far("is_open(s)") == "1", "the client is there")
    threading.Thread(target=lambda: eval(f"near.{ends}" if ends[0] == "p" else f"near{ends}", {"near": near})).start()
    fd = far("fd_for_select(s)")
    eventually(lambda: far(f"ready({fd}) and wait(s) or is_open(s)") == "0", "the end is seen")
    if ends[0] != "p":
        assert far("write(s, b'x', 1)") == "-1"
        eventually(lambda: far("gulp(s)") == poured, "all is read")
    wanted = f"error {errno.ECONNRESET if ends[0] == 'p' else errno.EPIPE}"  # the program is told whether all has come
    eventually(lambda: far("gulp(s) and got(s, 1)") == wanted, wanted)


@pytest.mark.slow
def test_a_close_and_an_exit_lose_nothing(one, two):
    """However late the reader is: they know when all has arrived."""
    far, near = Qubes(one), Qubes(two)
    assert far.server() == MADE and near.client() == MADE
    poured = fill(near)
    near.process.stdin.write(b"close(c)\n")
    near.process.stdin.close()
    with pytest.raises(subprocess.TimeoutExpired):
        near.process.wait(13)  # as long as the two waited before they knew
    eventually(lambda: far("gulp(s)") == poured, "all is read")
    assert near.process.wait(60 * PATIENCE) == 0
