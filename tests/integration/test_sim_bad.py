# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes wrong on simulated hosts: programs that die at each call or pass nonsense, directories that aren't a host's, a disk that is
full, and all domains that crash at once."""

import contextlib
import errno
import json
import os
import pathlib
import random
import re
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import threading

import pytest

from conftest import environment_of, program, row, wait_for, xensim

WILD = """
import ctypes, errno, mmap, os, threading
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]

def told(call, *arguments):
    ctypes.set_errno(0)
    value = call(*arguments)
    return errno.errorcode[ctypes.get_errno()] if value < 0 else value

evtchn, gntdev, gntalloc, privcmd = (os.open("/dev/xen/" + name, os.O_RDWR) for name in ("evtchn", "gntdev", "gntalloc", "privcmd"))
requests = {evtchn: [0x44500, 0x84501, 0x44502, 0x44503, 0x44504, 0x24506], gntdev: [0x184700, 0x104701, 0x184702, 0x104707],
            gntalloc: [0x184705, 0x104706, 0x104707], privcmd: [0x305000]}
for fd, numbers in requests.items():
    for number in numbers:
        assert told(libc.ioctl, fd, ctypes.c_ulong(number), ctypes.c_void_p(1)) in ("EFAULT", "ENOTTY"), (fd, hex(number))
    assert told(libc.ioctl, fd, ctypes.c_ulong(0x1234), ctypes.c_void_p(None)) == "ENOTTY"
for fd in (gntdev, gntalloc):
    assert told(libc.mmap, None, 4096, 3, mmap.MAP_SHARED, fd, 4096 * 1000) == "EINVAL"
hypercall = os.open("/dev/xen/hypercall", os.O_RDWR)
ctypes.memset(libc.mmap(None, 4096, 3, mmap.MAP_SHARED, hypercall, 0), 7, 4096)
assert told(libc.ioctl, hypercall, ctypes.c_ulong(0x305000), (ctypes.c_uint64 * 6)(17)) == "ENOTTY"
everything = (ctypes.c_uint32 * 6)(0xffffffff, *[0xffffffff] * 5)
for number in (0x184700, 0x104701, 0x184702, 0x104707, 0x104708):
    assert told(libc.ioctl, gntdev, ctypes.c_ulong(number), everything) in ("EINVAL", "ENOENT", "EFAULT"), hex(number)
for number in (0x184705, 0x104706, 0x104707):
    assert told(libc.ioctl, gntalloc, ctypes.c_ulong(number), everything) in ("EINVAL", "ENOENT", "ENOMEM"), hex(number)
os.set_blocking(evtchn, False)
# A thread that leaves the others' table of descriptors closes nothing of theirs.
alone = threading.Thread(target=lambda: (libc.close_range(100, 0xffffffff, 2), libc.close_range(0, 99, 0)))
alone.start(), alone.join()
assert told(libc.read, evtchn, ctypes.c_void_p(1), 4) == "EFAULT"
assert told(libc.write, evtchn, ctypes.c_void_p(1), 4) == "EFAULT"
assert told(libc.write, evtchn, everything, 24) == 24  # of ports that there aren't
assert told(libc.read, evtchn, everything, 24) == "EAGAIN"
for fd in (evtchn, gntdev, gntalloc, privcmd):
    os.close(fd)
    assert told(libc.close, fd) == "EBADF"
print("all refused")
"""


def test_wild_pointers_numbers_and_sizes_are_refused(host):
    done = host.run(1, "/usr/bin/python3", "-c", WILD)
    assert done.stdout == "all refused\n", done.stderr
    assert host.domain(1)["grants"]["used_pages"] == 0


# What a kernel finds out in the midst of a call: memory that ends, or can't be written to.
HOLES = """
import ctypes, errno, mmap, os, struct
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mprotect.argtypes += [ctypes.c_int]
PAGE, SIZE = 4096, 64
memory = libc.mmap(None, SIZE * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)

def told(fd, request, argument):
    ctypes.set_errno(0)
    value = libc.ioctl(fd, ctypes.c_ulong(request), ctypes.c_void_p(argument))
    return errno.errorcode[ctypes.get_errno()] if value < 0 else value

def at(page, *words, form):
    data = struct.pack(form, *words)
    ctypes.memmove(memory + page * PAGE, data, len(data))
    return memory + page * PAGE

def protect(page, how):
    assert libc.mprotect(memory + page * PAGE, PAGE, how) == 0

evtchn, gntdev, gntalloc, privcmd = (os.open("/dev/xen/" + name, os.O_RDWR) for name in ("evtchn", "gntdev", "gntalloc", "privcmd"))
protect(20, mmap.PROT_READ)
protect(30, 0)
# Many references, with a hole among them; and an answer that can't be written.
assert told(gntdev, 0x184700, at(0, 16000, 0, form="=II")) == "EFAULT"
protect(10, mmap.PROT_READ | mmap.PROT_WRITE)
at(10, 1, 0, 0, 1, 5, form="=IIQII")
protect(10, mmap.PROT_READ)
assert told(gntdev, 0x184700, memory + 10 * PAGE) == "EFAULT"
# Granted pages whose references nobody could be told of are taken back.
protect(10, mmap.PROT_READ | mmap.PROT_WRITE)
for flags in (mmap.PROT_READ, 0):
    start = at(11, 0, 1, 300, 0, form="=HHIQ") + PAGE - 24
    libc.memmove(ctypes.c_void_p(start), ctypes.c_void_p(memory + 11 * PAGE), 24)
    protect(12, flags)
    assert told(gntalloc, 0x184705, start) == "EFAULT"
    protect(12, mmap.PROT_READ | mmap.PROT_WRITE)
assert told(gntalloc, 0x184705, at(11, 0, 1, 0x80000001, 0, form="=HHIQ")) == "ENOMEM"
# An event stays for who can be told of it.
port = told(evtchn, 0x44502, at(1, DOMID, form="=I"))
assert told(evtchn, 0x84501, at(1, DOMID, port, form="=II")) > 0
assert libc.read(evtchn, ctypes.c_void_p(memory + 30 * PAGE), 4) == -1
words = (ctypes.c_uint32 * 4)()
assert libc.read(evtchn, words, 16) == 4
assert libc.write(evtchn, ctypes.c_void_p(memory + 29 * PAGE), 4 * PAGE) == -1  # whose end isn't there
assert told(privcmd, 0x305000, at(2, 32, 5, memory + 30 * PAGE, 0, 0, 0, form="=QQQQQQ")) == WITHOUT  # event_channel_op, status
for operation in (35, 36):  # sysctl, domctl
    assert told(privcmd, 0x305000, at(2, operation, memory + 30 * PAGE, 0, 0, 0, 0, form="=QQQQQQ")) == WITHOUT
print("all refused")
"""


@pytest.mark.parametrize("domid, without", [(0, "EFAULT"), (1, "EPERM")])
def test_memory_that_ends_in_the_midst_of_a_call_harms_nobody(host, domid, without):
    done = host.run(domid, "/usr/bin/python3", "-c", f"DOMID, WITHOUT = {domid}, {without!r}\n{HOLES}")
    assert done.stdout == "all refused\n", done.stderr
    assert host.domain(domid)["grants"]["used_pages"] == 0


CALLS = ["share 2 3 1", "share-notify 2 22 {port}", "evtchn-open", "bind-unbound 0 2", "bind-many 0 2 20", "notify 0 {port}",
         "unbind 0 {port}", "evtchn-close 0", "dl-bind 2", "raw-device /dev/xen/xenbus", "exec", "close-all",
         "xs-write data/a b", "xs-watch data/a", "xs-begin", "xs-overtakes data/a 50"]


def has_nothing(host, domid):
    """Of a domain's programs nothing is left."""
    domain = host.domain(domid)
    left = [domain["processes"], domain["mapped_pages"], domain["grants"]["used_pages"], domain["grants"]["entries"],
            *(domain["event_channels"][what] for what in ("used", "handles")),
            *(domain["xenstore"][what] for what in ("watches", "connections"))]
    return not any(left)


@pytest.mark.parametrize("seed", [1, 2])
def test_programs_that_die_at_each_call_leave_nothing(host, seed):
    moments = random.Random(seed)
    for call in CALLS:
        one = host.xen(1)
        one.ok("evtchn-open")
        port = one.ok("bind-unbound", 0, 2)
        one.ok("share", 2, 1, 1)
        one.tell(call.format(port=port))
        wait_for(lambda one=one: one.answers_within(moments.uniform(0, 0.002)) or True, "a moment")
        one.kill()
    host.run(1, "xenstore-rm", "data/a")
    wait_for(lambda: has_nothing(host, 1), "the end of all that they had")


# The same by Xen's libraries, which look at little of it themselves; what they follow themselves must be right.
LIBRARIES = """
import ctypes, errno, mmap, os
NUMBERS = (0, 1, 7, 8, 1016, 4096, 131072, 0x7fffffff, 0x80000000, 0xffffffff)
libraries = {name: ctypes.CDLL(f"libxen{name}.so.1", use_errno=True) for name in ("gnttab", "evtchn")}
refused = set()

def call(name, function, *arguments, kind=ctypes.c_int):
    function = getattr(libraries[name], function)
    function.restype = kind
    ctypes.set_errno(0)
    value = function(*arguments)
    if value is None or (kind == ctypes.c_int and value < 0):
        refused.add(errno.errorcode[ctypes.get_errno()])
        return False
    return True

def opened(name, function):
    function = getattr(libraries[name], function)
    function.restype = ctypes.c_void_p
    return ctypes.c_void_p(function(None, 0))

words = (ctypes.c_uint32 * 70000)(*[0xffffffff] * 70000)
granter, mapper, ports = opened("gnttab", "xengntshr_open"), opened("gnttab", "xengnttab_open"), opened("evtchn", "xenevtchn_open")
number = ctypes.c_uint32
for one in NUMBERS:
    for domid in (0, 2, 77, 0x7ff0, 0x7ff4, 0xffff, 0xffffffff):
        if one not in (1, 7, 8, 1016):
            assert not call("gnttab", "xengntshr_share_pages", granter, number(domid), number(one), words, 1, kind=ctypes.c_void_p), (domid, one)
        assert not call("gnttab", "xengnttab_map_grant_ref", mapper, number(domid), number(one), 3, kind=ctypes.c_void_p)
        # Of more the library would read beyond our array.
        assert not call("gnttab", "xengnttab_map_domain_grant_refs", mapper, number(min(one, len(words))), number(domid), words, 3, kind=ctypes.c_void_p)
        assert not call("evtchn", "xenevtchn_bind_interdomain", ports, number(domid), number(one))
    assert call("evtchn", "xenevtchn_unmask", ports, number(one))  # of ports that there aren't
    for function in ("notify", "unbind"):
        assert not call("evtchn", "xenevtchn_" + function, ports, number(one)), (function, one)
    assert not call("gnttab", "xengnttab_unmap", mapper, ctypes.c_void_p(one * 4096), number(one))
assert refused <= {"EINVAL", "ENOSPC", "ENOMEM", "ESRCH", "ENOTCONN", "ENXIO", "EPERM"}, refused

class Segment(ctypes.Structure):  # that is copied from a page of domain 2
    _fields_ = [("ref", ctypes.c_uint32), ("offset", ctypes.c_uint16), ("domid", ctypes.c_uint16), ("to", ctypes.c_void_p),
                ("len", ctypes.c_uint16), ("flags", ctypes.c_uint16), ("status", ctypes.c_int16)]

memory = ctypes.create_string_buffer(4096)
at = ctypes.addressof(memory)
two = mmap.mmap(-1, 8192)
hole = ctypes.addressof(ctypes.c_char.from_buffer(two)) + 4096
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(hole), 4096, 0) == 0
for words, expected in (((REF, 0, 2, at, 64, 1), 0), ((REF, 4000, 2, at, 97, 1), "EINVAL"), ((REF, 0xffff, 2, at, 0xffff, 1), "EINVAL"),
                        ((REF, 0, 2, at, 64, 0), "EINVAL"), ((REF, 0, 2, 1, 64, 1), "EFAULT"), ((REF, 0, 2, hole - 32, 64, 1), "EFAULT"),
                        ((REF, 0, 2, 0xfffffffffffff000, 64, 1), "EFAULT"), ((REF + 1, 0, 2, at, 64, 1), -3), ((REF, 0, 0xffff, at, 64, 1), -2)):
    segment = Segment(*words, 77)
    refused = set()
    done = call("gnttab", "xengnttab_grant_copy", mapper, number(1), ctypes.byref(segment))
    assert (segment.status if done else refused.pop()) == expected, (words, segment.status, refused)
print("all refused")
"""


def test_wild_arguments_of_the_libraries_are_refused(host):
    _, ref = host.xen(2).ok("share", 1, 1, 1)
    # The libraries ask for as much memory as the number says, which a sanitizer takes for a mistake of theirs; or it gives 8 GiB, and
    # writes a gigabyte about that.
    options = f"{os.environ.get('ASAN_OPTIONS', '')}:allocator_may_return_null=1:max_allocation_size_mb=1024"
    done = host.run(1, "/usr/bin/python3", "-c", f"REF = {ref}\n{LIBRARIES}", env={"ASAN_OPTIONS": options})
    assert done.stdout == "all refused\n", done.stderr
    assert host.domain(1)["grants"]["used_pages"] == 0 and host.domain(1)["event_channels"]["used"] == 0


def others_are_well(host, other):
    states = [domain["state"] for domain in host.list()["domains"]]
    assert states[:4] == ["running"] * 4 and set(states[4:]) <= {"paused"}  # what domain 0 makes for a toolstack
    assert other.ok("evtchn-open") == 0


# proto.h: all but BE (17), by which a child tells its number, which then is believed; of domain 0 not what ends another domain.
REQUESTS = {1: [op for op in range(32) if op != 17], 0: [op for op in range(32) if op not in (17, 21, 22, 23, 24)]}


@pytest.mark.parametrize("domid", REQUESTS)
def test_requests_at_random_harm_nobody(host, domid):
    """By the socket of the library, which knows what it asks; a connection that is malformed ends."""
    choose, other, connection, ended = random.Random(domid), host.xen(3), None, 0
    numbers = (0, 1, 2, 3, 8, 9, 64, 4096, 0x7ff0, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff)
    for _ in range(3000):
        if not connection:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.connect(f"{host.dir}/dom-{domid}/hv.sock")
            connection.settimeout(60)
        count = choose.choice(numbers)
        words = [choose.choice(REQUESTS[domid]), *(choose.choice(numbers) for _ in range(3)), count, *(choose.choice(numbers) for _ in range(3)),
                 *(choose.choice(numbers) for _ in range(choose.choice((0, 0, 1, 2 * min(count, 70), min(count, 70)))))]
        connection.send(struct.pack(f"={len(words)}I", *words))
        # With the descriptors, which are closed.
        answer, descriptors, _, _ = socket.recv_fds(connection, 65536, 200)
        for descriptor in descriptors:
            os.close(descriptor)
        if not answer:
            connection.close()
            connection, ended = None, ended + 1
    assert 0 < ended < 3000
    if connection:
        connection.close()
    wait_for(lambda: host.domain(domid)["grants"]["used_pages"] == 0 and host.domain(domid)["event_channels"]["used"] == 0, "the end of all that it had")
    assert host.domain(domid)["mapped_pages"] == 0
    others_are_well(host, other)


MAPPING_CALLS = ["map 1 {ref} 130 1", "map 1 {ref} 130 0", "map-notify 1 {ref} 22 {port}", "unmap 0", "munmap 0 0 2", "copy 1 {ref} 8 64",
                 "copy-to 1 {ref} 8 64", "exec", "close-all"]
FOREIGN_CALLS = ["foreign-map 1 1 2 1 2 1 2", "foreign-map 1 0 1", "foreign-unmap 0", "map 1 {ref} 2 1", "exec"]


@pytest.mark.parametrize("domid, calls", [(2, MAPPING_CALLS), (0, FOREIGN_CALLS)])
def test_who_dies_while_it_maps_lets_all_of_it_go(host, domid, calls):
    moments, one = random.Random(domid), host.xen(1)
    _, *refs = one.ok("share", domid, 130, 1)
    for call in calls * 2:
        other = host.xen(domid)
        other.ok("evtchn-open")
        port = other.ok("bind-unbound", 0, 1)
        other.ok("map", 1, refs[0], 3, 1)
        if not domid:
            other.ok("foreign-map", 1, 1, 2)
        other.tell(call.format(ref=refs[0], port=port))
        wait_for(lambda other=other: other.answers_within(moments.uniform(0, 0.002)) or True, "a moment")
        other.kill()
    wait_for(lambda: has_nothing(host, domid), "the end of all that they had")
    one.ok("unshare", 0)
    assert host.domain(1)["grants"]["entries"] == 0
    host.sim("destroy", 1)
    assert host.domain(1) is None  # nobody holds a page of it


def start(directory):
    return xensim("start", "--domains", 5, "--dir", directory)


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "precious").write_text("data")
    done = start(tmp_path)
    assert done.returncode == 1 and done.stderr == f"xensim: {tmp_path} isn't empty, and no host has left it: choose another --dir\n"
    assert os.listdir(tmp_path) == ["precious"]


def test_too_few_descriptors_are_an_error():
    """As in a container with a strange limit."""
    directory = tempfile.mkdtemp(prefix="few-")
    environment = environment_of(f"{directory}/host")
    for descriptors in range(4, 24):
        few = ["prlimit", f"--nofile={descriptors}", program("xensim"), "start", "--domains", "2"]
        done = subprocess.run(few, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1) and (done.returncode == 0 or descriptors < 20), (descriptors, done)
        if done.returncode:
            assert done.stderr and not done.stdout, (descriptors, done)
            # What it has left, the next one takes.
            assert xensim("start", env=environment).returncode == 0, descriptors
        assert xensim("stop", env=environment).returncode == 0, descriptors
        assert not os.path.exists(f"{directory}/host"), descriptors
    os.rmdir(directory)


def test_without_a_dev_null_it_says_so(tmp_path):
    root = ["bwrap", "--bind", "/", "/", "--dev-bind", "/dev", "/dev"]
    if subprocess.run([*root, "true"], check=False, capture_output=True).returncode:
        pytest.skip("there is no container here: install bubblewrap")
    done = subprocess.run([*root, "--ro-bind", "/dev/null", "/dev/null", program("xensim"), "run", "--", "true"], stdin=subprocess.PIPE,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 125 and done.stderr.startswith("xensim: cannot open /dev/null: "), done


def test_a_second_host_in_a_directory_is_refused(host):
    done = start(host.dir)
    assert done.returncode == 1 and "a host runs in" in done.stderr and len(done.stderr.splitlines()) == 1
    assert len(host.list()["domains"]) == 4


def test_of_many_hosts_in_one_directory_one_begins(tmp_path):
    directory = tempfile.mkdtemp(prefix="race-")
    starts = [subprocess.Popen([program("xensim"), "start", "--domains", "1", "--dir", directory], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    said = [one.communicate() for one in starts]
    assert sorted(one.returncode for one in starts) == [0] + 7 * [1], said
    assert all("a host runs in" in error for (_, error), one in zip(said, starts) if one.returncode), said
    assert xensim("stop", env=environment_of(directory)).returncode == 0
    assert not os.path.exists(directory)


def test_who_starts_and_stops_in_one_directory_never_shares_it(tmp_path):
    """A start may come upon a directory that another's stop removes."""
    directory, errors = tempfile.mkdtemp(prefix="race-"), []
    environment, owner = environment_of(directory), threading.Lock()

    def use():
        begun = 0
        while begun < 10 and not errors:
            done = start(directory)
            if done.returncode:
                if not done.stderr.endswith((", or choose another --dir\n", "No such file or directory\n")):
                    errors.append(done.stderr)
                continue
            begun += 1
            if not owner.acquire(blocking=False):
                errors.append("two hosts at once")
                return
            xensim("list", env=environment)
            owner.release()  # before another can begin
            done = xensim("stop", env=environment)
            if done.returncode:
                errors.append(done.stderr)

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert not errors, errors


def test_a_host_of_another_version_can_only_be_stopped(host):
    path = pathlib.Path(host.dir) / "version"
    right = path.read_text()
    for version in ("0.0.1\n", "", "\xff" * 100, None):
        path.unlink()
        if version is not None:
            path.write_bytes(version.encode("latin-1"))
        for words in (["list"], ["exec", "1", "--", "true"], ["create"]):
            done = xensim(*words, env=host.environment, errors="replace")
            assert done.returncode == 1 and done.stderr.count("\n") == 1 and "start another one" in done.stderr, (version, done)
        path.write_text(right)
        assert len(host.list()["domains"]) == 4, version
    path.write_text("0.0.1\n")
    host.sim("stop")


@pytest.mark.skipif(os.geteuid() != 0, reason="to be two users takes root")
def test_another_users_host_is_refused_to_all_commands(host):
    for words in (["list"], ["exec", "1", "--", "true"], ["stop"], ["start", "--dir", host.dir]):
        done = xensim(*words, env=host.environment, user=1001, group=1001, extra_groups=[])
        assert done.returncode in (1, 125) and len(done.stderr.splitlines()) == 1 and "ermission denied" in done.stderr, done
    assert len(host.list()["domains"]) == 4


@contextlib.contextmanager
def disk(size, files):
    """A small one."""
    path = tempfile.mkdtemp(prefix="full-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes={files}", "full", path], check=False, capture_output=True).returncode:
        os.rmdir(path)
        pytest.skip("nothing can be mounted here")
    try:
        yield path
    finally:
        # Nothing stays that uses it.
        wait_for(lambda: subprocess.run(["umount", path], check=False, capture_output=True).returncode == 0, "the end of all processes")
        os.rmdir(path)


FULL = os.strerror(errno.ENOSPC)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk takes root")
def test_a_full_disk_is_one_error_and_leaves_nothing():
    for files in range(3, 16):
        with row(f"{files} files"), disk("64k", files) as path:
            done = start(f"{path}/host")
            assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
            assert done.stderr.startswith("xensim: cannot ") and done.stderr.endswith(f": {FULL}\n")
            assert not os.listdir(path)


def fill(path, left):
    """All files and all bytes, but for so many files that are left. What it has made."""
    made = []
    with contextlib.suppress(OSError):
        for number in range(1000):
            made.append(f"{path}/filler-{number}")
            os.mknod(made[-1])
    made.pop()
    for _ in range(left):
        os.unlink(made.pop())
    with contextlib.suppress(OSError), open(made[0], "wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))
    return made


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk takes root")
@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 8, 16])
def test_a_disk_that_fills_up_is_one_error_a_command(left):
    with disk("2m", 500) as path, contextlib.ExitStack() as stack:
        assert start(f"{path}/host").returncode == 0
        environment = environment_of(f"{path}/host")

        def command(*words):
            return xensim(*words, env=environment)

        def domains():
            return json.loads(command("list", "--json").stdout)["domains"]

        stack.callback(command, "stop")
        inside = subprocess.Popen([program("xensim"), "exec", "1", "--", "sleep", "1000"], env=environment)
        wait_for(lambda: domains()[1]["processes"] == 1, "the program is in its domain")
        made = fill(path, left)
        failed = []
        for words in (("create",), ("create", "--name", "a"), ("exec", 2, "--", "true"), ("exec", 2, "--", "true"), ("suspend", 1), ("resume", 1),
                      ("migrate", 3), ("checkpoint", 2), ("shutdown", 4, "--reboot"), ("record", f"{path}/record"), ("rename", 2, "b"),
                      ("exec", 0, "--", "xenstore-write", "/a", "b"), ("record", "off")):
            done = command(*words)
            if done.returncode:
                failed.append(words[0])
                assert done.stderr.endswith(f": {FULL}\n") and len(done.stderr.splitlines()) == 1, (words, done.stderr)
        assert {"exec"} <= set(failed) if left < 16 else failed, failed
        for file in made:
            os.unlink(file)
        # With room all goes on, also what has failed in the midst.
        for words in (("create",), ("exec", 2, "--", "true"), ("record", f"{path}/record"), ("exec", 0, "--", "xenstore-read", "domid"),
                      ("record", "off")):
            assert command(*words).returncode == 0, words
        for domain in domains():
            assert domain["state"] == "running" or command("resume", domain["domid"]).returncode == 0
        assert len(domains()) >= 6 and {domain["state"] for domain in domains()} == {"running"}
        assert command("stop").returncode == 0
        assert inside.wait() == -signal.SIGKILL
        assert set(os.listdir(path)) <= {"record"}


def test_a_record_that_ends_for_want_of_room_says_so(host):
    host.sim("record", "/dev/full")
    host.run(1, "xenstore-read", "domid")
    assert host.sim("record", "off", check=False).stderr == f"xensim: record: it ended before, in the midst: {FULL}\n"
    host.sim("record", "off")
    done = host.run(1, program("xensim"), "trace", "/dev/full", "--", "xenstore-read", "domid")
    assert done.stdout == "1\n" and done.stderr == f"xensim: the trace ends, since /dev/full cannot be written: {FULL}\n"


def ask_at_once(host, commands):
    """By the socket that the commands use, since a thousand processes take their time. The answers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, len(commands) + 200)), hard))
    try:
        with contextlib.ExitStack() as stack:
            asked = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in commands]
            for one, words in zip(asked, commands):
                one.connect(f"{host.dir}/xensim.sock")
                one.sendall(b"".join(str(word).encode() + b"\0" for word in words))
            for one in asked:
                one.shutdown(socket.SHUT_WR)
            return [one.recv(4096) for one in asked]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_domains_crash_at_once(make_host):
    host = make_host(domains=1000)
    programs = [host.sleeper(domid) for domid in range(1, 1001, 100)]
    assert ask_at_once(host, [("crash", domid) for domid in range(1, 1001)]) == 1000 * [b"0\n"]
    assert {inside.wait() for inside in programs} == {-9}
    assert [domain["domid"] for domain in host.list()["domains"]] == [0]


HYPERCALLS = """
import ctypes, mmap, os, random, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
privcmd, choose = os.open("/dev/xen/privcmd", os.O_RDWR), random.Random(int(sys.argv[1]))
# A page, with none behind it.
room = mmap.mmap(-1, 8192)
page = ctypes.addressof(ctypes.c_char.from_buffer(room))
assert libc.mprotect(ctypes.c_void_p(page + 4096), 4096, 0) == 0
numbers = (0, 1, 2, 3, 7, 8, 64, 0x7ff0, 0xffffffff, 1 << 40, page, page + 4090)
DOMCTL, SYSCTL, MULTICALL = 36, 35, 13
versions = {DOMCTL: int(sys.argv[2], 16), SYSCTL: int(sys.argv[3], 16)}
done = 0
for _ in range(6000):
    op = choose.choice((DOMCTL, DOMCTL, SYSCTL, SYSCTL, MULTICALL, 12, 17, 29, 32, 34, 41, 999))
    words = [choose.choice(numbers) & 0xffffffffffffffff for _ in range(500)]
    ctypes.memmove(page, struct.pack("=500Q", *words), 4000)
    if op in versions:
        command = choose.choice([n for n in range(90) if op != DOMCTL or n not in (2, 3, 4)])
        ctypes.memmove(page, struct.pack("=IIQ", command, versions[op], choose.choice((0, 1, 2, 3, 0x7ff0))), 16)
    if op == MULTICALL:
        for i in range(3):
            struct.pack_into("=QqQQ", room, 64 * i, choose.choice((MULTICALL, 12, 17, 999)), 0, choose.choice(numbers), choose.choice(numbers))
    first, second = (choose.choice(numbers) for _ in range(2))
    if op in (*versions, MULTICALL):
        first = choose.choice((page, first))
    if op == MULTICALL:
        second = choose.choice((0, 1, 3))
    call = (ctypes.c_uint64 * 6)(op, first, second, 0, 0, 0)
    done += libc.ioctl(privcmd, ctypes.c_ulong(0x305000), call) >= 0
print(done)
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_hypercalls_at_random_harm_nobody(host, seed):
    """Of domain 0, but those that end or stop another domain."""
    other = host.xen(3)
    versions = [re.search(rf"define XEN_{name}_INTERFACE_VERSION 0x(\w+)", open(f"/usr/include/xen/{name.lower()}.h", encoding="utf-8").read())[1]
                for name in ("DOMCTL", "SYSCTL")]
    done = host.run(0, "/usr/bin/python3", "-c", HYPERCALLS, seed, *versions)
    assert int(done.stdout) > 50, done.stderr
    others_are_well(host, other)
