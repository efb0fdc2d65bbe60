# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs that are linked statically reach XenStore and the files of their domain, though no library is loaded into them."""

import os
import pathlib
import signal
import subprocess

import pytest

from conftest import TIMEOUT, program, wait_for

SOURCE = pathlib.Path(__file__).with_name("static_program.c")


@pytest.fixture(name="static", scope="module")
def fixture_static(tmp_path_factory):
    path = tmp_path_factory.mktemp("static") / "program"
    done = subprocess.run(["cc", "-static", "-o", path, SOURCE], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("nothing can be linked statically here")
    return path


def attendants():
    """Those of this xensim that are there now."""
    found = set()
    for entry in os.scandir("/proc"):
        try:
            if entry.name.isdigit() and os.readlink(f"{entry.path}/exe") == os.path.realpath(program("xensim")) \
                    and os.readlink(f"{entry.path}/fd/3") == "anon_inode:seccomp notify":
                found.add(entry.name)
        except OSError:
            pass
    return found


def seen(domid, socket, kind):
    return [f"xenbus: {domid}", f"socket: {socket}", f"type: {kind}", "gntdev: No such device", "there: 0 0 0"]


def test_a_static_program_sees_its_domain(host, static):
    none = os.strerror(2)
    done = host.run(1, static)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (7, seen(1, none, "PVH"), "")
    assert host.run(0, static).stdout.splitlines() == seen(0, 0, "PV")
    host.sim("suspend", 2)
    domid = int(host.sim("resume", 2).stdout)
    assert host.run(domid, static).stdout.splitlines() == seen(domid, none, "PVH")


def test_another_program_starts_a_static_one(host, static):
    for starter in (["/bin/sh", "-c", "PROGRAM; exit $?"], ["/usr/bin/env", "PROGRAM"],
                    ["/usr/bin/python3", "-c", "import os, sys; pid = os.posix_spawn('PROGRAM', ['x'], os.environ);"
                     "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"]):
        done = host.run(1, *(word.replace("PROGRAM", str(static)) for word in starter))
        assert (done.returncode, done.stdout.splitlines()) == (7, seen(1, os.strerror(2), "PVH")), (starter, done.stderr)


def test_what_a_static_program_starts_is_in_its_domain(host, static):
    assert host.run(2, static, "/bin/sh", "-c", "xenstore-read domid").stdout == "2\n"
    assert host.run(2, static, static).stdout.splitlines() == seen(2, os.strerror(2), "PVH")
    assert host.run(2, "/usr/bin/env", "-u", "LD_PRELOAD", static).stdout.splitlines()[0] != "xenbus: 2", "it was taken out"


def test_an_attendant_ends_with_its_program(host, static):
    before = attendants()
    sleeper = host.spawn(1, static, "/bin/sleep", "1000")
    own = wait_for(lambda: attendants() - before, "its attendant")
    wait_for(lambda: host.domain(1)["processes"] == 1, "the program, which alone is a process of its domain")
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait(timeout=2 * TIMEOUT)
    wait_for(lambda: not own & attendants(), "the end of its attendant")
