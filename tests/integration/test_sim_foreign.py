# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory of another domain that is mapped by its frames, as device models do (what real Xen answers is in tests/conformance)."""

import errno

from conftest import TIMEOUT, wait_for

CONSOLE, STORE, FIRST = 2, 1, 0x1000  # proto.h; doc/xensim.md has them

WILD = """
import ctypes, errno, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_long
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

class Batch(ctypes.Structure):
    _fields_ = [("num", ctypes.c_uint32), ("dom", ctypes.c_uint16), ("addr", ctypes.c_uint64), ("arr", ctypes.c_void_p), ("err", ctypes.c_void_p)]

fd = os.open("/dev/xen/privcmd", os.O_RDWR)

def batch(num, dom, addr, arr, err):
    ctypes.set_errno(0)
    return libc.ioctl(fd, ctypes.c_ulong(0x205004), ctypes.byref(Batch(num, dom, addr, arr, err))), errno.errorcode.get(ctypes.get_errno())

def room(pages):
    start = libc.mmap(None, 4096 * pages, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, fd, 0)
    assert start > 0
    return start

frames, errors = (ctypes.c_uint64 * 200)(*[2] * 200), (ctypes.c_int * 200)()
at, err = ctypes.addressof(frames), ctypes.addressof(errors)
start = room(200)
for words, error in (((0, 1, start, at, err), "EINVAL"), ((0xffffffff, 1, start, at, err), "EINVAL"), ((200, 1, 4096, at, err), "EINVAL"),
                     ((200, 1, start + 4096, at, err), "EINVAL"), ((201, 1, start, at, err), "EINVAL"), ((200, 1, start, 1, err), "EFAULT"),
                     ((200, 1, start, at, None), "EFAULT"), ((200, 1, start, at, 0xffffffffffff0000), "EFAULT")):
    assert batch(*words) == (-1, error), words
frames[100], frames[150] = 0xffffffffffffffff, 7
assert batch(200, 1, start, at, err) == (0, None)
assert [number for number in range(200) if errors[number]] == [100, 150] and errors[100] == errors[150] == -errno.EPERM
assert batch(200, 1, start, at, err) == (-1, "EINVAL")  # once
ctypes.memset(start + 4000, 7, 1)
assert ctypes.string_at(start + 199 * 4096 + 4000, 1) == b"\\x07"
child = os.fork()
if child == 0:
    assert libc.munmap(start, 200 * 4096) == 0  # nothing is there
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert ctypes.string_at(start + 4000, 1) == b"\\x07"
print("mapped", flush=True)
input()
assert libc.munmap(start, 100 * 4096) == 0
print("half", flush=True)
input()
assert libc.munmap(start + 100 * 4096, 100 * 4096) == 0
print("unmapped", flush=True)
input()
"""


def test_only_what_is_well_formed_is_mapped_and_once(host):
    inside = host.spawn(0, "/usr/bin/python3", "-c", WILD, stdin=-1, stdout=-1, text=True, bufsize=1)
    for said, pages in (("mapped", 198), ("half", 198), ("unmapped", 0)):
        assert inside.stdout.readline() == said + "\n"
        assert host.domain(0)["mapped_pages"] == pages
        inside.stdin.write("\n")
    assert inside.wait(timeout=2 * TIMEOUT) == 0


def test_a_granted_page_is_found_by_its_frame(host):
    guest, model = host.xen(1), host.xen(0)
    refs = guest.ok("share", 2, 2, 0)[1:]
    assert model.ok("foreign-map", 1, 1, FIRST + refs[1], FIRST + refs[0], FIRST + refs[1] + 100)[1:] == [0, 0, -errno.EPERM]
    guest.ok("poke", 0, 4096, 42)
    assert model.ok("peek", 0, 0) == 42
    model.ok("poke", 0, 4096, 43)
    assert guest.ok("peek", 0, 0) == 43


def test_who_maps_a_ring_keeps_the_dead_domain_as_a_zombie(host):
    model, other = host.xen(0), host.xen(0)
    model.ok("foreign-map", 1, 1, CONSOLE, STORE)
    assert other.ok("foreign-map", 1, 0, CONSOLE)[1] == 0
    host.sim("destroy", 1)
    model.ok("poke", 0, 0, 1)
    assert other.ok("peek", 0, 0) == 1
    assert [domain["state"] for domain in host.list()["domains"] if domain["domid"] == 1] == ["zombie"]
    other.kill()
    model.ok("foreign-unmap", 0)
    wait_for(lambda: not any(domain["domid"] == 1 for domain in host.list()["domains"]), "the zombie's end")


def test_a_restored_domain_has_rings_of_its_own(host):
    model = host.xen(0)
    model.ok("foreign-map", 1, 1, CONSOLE)
    model.ok("poke", 0, 0, 1)
    host.sim("suspend", 1)
    domid = int(host.sim("resume", 1).stdout)
    assert model.ok("foreign-map", domid, 1, CONSOLE)[1] == 0
    assert model.ok("peek", 1, 0) == 0 and model.ok("peek", 0, 0) == 1
    assert host.domain(domid)["grants"]["entries"] == 0
    for number in (0, 1):
        model.ok("foreign-unmap", number)
    wait_for(lambda: not any(domain["domid"] == 1 for domain in host.list()["domains"]), "the zombie's end")
    assert model.ok("foreign-map", domid, 0, CONSOLE)[1] == 0


def test_a_model_that_dies_leaves_nothing(host):
    model = host.xen(0)
    model.ok("foreign-map", 1, 1, CONSOLE, STORE)
    model.kill()
    wait_for(lambda: host.domain(0)["mapped_pages"] == 0, "the end of its mappings")
    host.sim("destroy", 1)
    assert all(domain["domid"] != 1 for domain in host.list()["domains"])


def test_a_guest_maps_no_frames_whatever_its_kernel_lets(host):
    host.run(1, "/bin/sh", "-c", "echo Y >/sys/module/xen_privcmd/parameters/unrestricted")
    assert host.xen(1).error("foreign", 2, CONSOLE) == host.xen(2).error("foreign", 1, CONSOLE) == errno.EPERM
