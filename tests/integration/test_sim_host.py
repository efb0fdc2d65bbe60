# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command xensim: domains come, go, are saved and restored, and every bad argument gets one clear line."""

import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid

import pytest

from conftest import TIMEOUT, environment_of, wait_for, xensim


def test_start_prints_the_directory_and_stop_removes_it():
    base = tempfile.mkdtemp(prefix="xensim-")
    directory = os.path.join(base, "host")
    done = xensim("start", "--domains", 2, "--dir", directory)
    assert (done.returncode, done.stdout) == (0, directory + "\n")
    again = xensim("start", "--dir", directory)
    assert again.returncode == 1 and "already" in again.stderr
    done = xensim("stop", env=environment_of(directory))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not os.path.exists(directory)
    os.rmdir(base)


def test_stop_kills_what_runs_inside(host):
    sleeper = host.spawn(1, "/bin/sleep", "1000")
    child = host.spawn(2, "/bin/sh", "-c", "sleep 1000 & echo started; wait", stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"started\n"
    wait_for(lambda: host.domain(1)["processes"] == 1 and host.domain(2)["processes"] == 2, "both")
    host.sim("stop")
    assert sleeper.wait(timeout=TIMEOUT) == -signal.SIGKILL
    assert child.wait(timeout=TIMEOUT) == -signal.SIGKILL
    # Its grandchild held the pipe.
    assert child.stdout.read() == b""


def test_exec_passes_the_exit_status_on(host):
    assert host.run(1, "/bin/sh", "-c", "exit 7").returncode == 7
    assert host.run(1, "/nonexistent").returncode == 127
    assert host.run(1, "/etc/passwd").returncode == 126


def test_exec_sets_the_domain_up(host):
    done = host.run(1, "/bin/sh", "-c", "echo $XENMSG_SOCKET; cat /sys/hypervisor/guest_type; cat /sys/hypervisor/type")
    assert done.stdout.split() == [host.socket(1), "PVH", "xen"]
    assert host.run(0, "/bin/cat", "/sys/hypervisor/guest_type", "/proc/xen/capabilities").stdout.split() == ["PV", "control_d"]
    pv = int(host.sim("create", "--type", "pv").stdout)
    assert host.run(pv, "/bin/cat", "/sys/hypervisor/guest_type").stdout == "PV\n"
    assert host.xen(1).ask("file", "/sys/hypervisor/guest_type") == "ok PVH"
    assert host.run(1, "/usr/bin/test", "-e", "/dev/xen/evtchn").returncode == 0


CLEARED = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
arguments = [b"/usr/bin/xenstore-read", b"name"]
argv = (ctypes.c_char_p * 3)(*arguments)
envp = (ctypes.c_char_p * 2)(b"A=1")
{}
"""
WAYS_TO_CLEAR = {
    "execve": "os.execve(arguments[0], arguments, {})",
    "posix_spawn": "sys.exit(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(arguments[0], arguments, {}), 0)[1]))",
    "posix_spawnp": "sys.exit(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawnp('xenstore-read', arguments, {}), 0)[1]))",
    "execvpe": "libc.execvpe(b'xenstore-read', argv, envp)",
    "execle": "libc.execle(b'/usr/bin/xenstore-read', *arguments, None, envp)",
    "fexecve": "libc.fexecve(os.open(arguments[0], os.O_RDONLY), argv, envp)",
    "clearenv_execv": "libc.clearenv(); libc.execv(arguments[0], argv)",
    "clearenv_execl": "libc.clearenv(); libc.execl(arguments[0], *arguments, None)",
    "environ_execvp": "ctypes.c_void_p.in_dll(libc, 'environ').value = None; libc.execvp(arguments[0], argv)",
    "environ_execlp": "ctypes.c_void_p.in_dll(libc, 'environ').value = None; libc.execlp(arguments[0], *arguments, None)",
    "clearenv_system": "libc.clearenv(); sys.exit(libc.system(b'xenstore-read name'))",
    "clearenv": "libc.clearenv(); xs = ctypes.CDLL('libxenstore.so.4'); xs.xs_open.restype = xs.xs_read.restype = ctypes.c_void_p; "
                "name = xs.xs_read(ctypes.c_void_p(xs.xs_open(0)), 0, b'name', ctypes.byref(ctypes.c_uint())); "
                "print(ctypes.string_at(name).decode()); libc.free(ctypes.c_void_p(name))",
}


@pytest.mark.parametrize("way", WAYS_TO_CLEAR)
def test_who_clears_its_environment_stays_in_its_domain(host, way):
    done = host.run(2, "/usr/bin/python3", "-c", CLEARED.replace("{}", WAYS_TO_CLEAR[way], 1))
    assert (done.returncode, done.stdout) == (0, "dom2\n"), done.stderr


def test_a_cleared_environment_has_the_domain_and_what_was_given(host):
    done = host.run(2, "/usr/bin/env", "-i", "A=1", "XENSTORED_PATH=mine", "LD_PRELOAD=libdl.so.2", "/usr/bin/env")
    there = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert there["XENSIM_DOMID"] == "2" and (there["A"], there["XENSTORED_PATH"]) == ("1", "mine")
    assert there["LD_PRELOAD"].endswith("libxensim.so:libdl.so.2")
    assert "PATH" not in there
    sleeper = host.spawn(2, "/usr/bin/env", "-i", "/bin/sleep", "1000")
    wait_for(lambda: host.domain(2)["processes"] == 1, "the process in its domain")
    host.sim("destroy", 2)
    assert sleeper.wait(timeout=TIMEOUT) == -signal.SIGKILL


def test_what_is_taken_out_of_an_environment_stays_out(host):
    done = host.run(2, "/usr/bin/env", "-u", "LD_PRELOAD", "-u", "XENSTORED_PATH", "/usr/bin/env")
    there = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert there["XENSIM_DOMID"] == "2" and "LD_PRELOAD" not in there and "XENSTORED_PATH" not in there


def test_each_domain_has_the_daemons_directory_for_itself(host):
    assert host.run(1, "/bin/mkdir", "/run/xenmsgd").returncode == 0
    assert [host.run(domid, "/usr/bin/test", "-d", "/run/xenmsgd").returncode for domid in (1, 2)] == [0, 1]


def test_directories_are_made_step_by_step_in_the_domain(host):
    script = "cd / && mkdir -p /etc/xenmsg/policy.d/a && cd /etc && echo hello >xenmsg/policy.d/a/b && cd xenmsg && ls -R . && cat policy.d/a/b"
    done = host.run(1, "/bin/bash", "-c", script)
    assert done.stdout == ".:\npolicy.d\n\n./policy.d:\na\n\n./policy.d/a:\nb\nhello\n", done.stderr
    assert os.path.exists(f"{host.dir}/dom-1/root/etc/xenmsg/policy.d/a/b")


def test_a_domain_has_the_home_that_a_toolstack_makes(host):
    xen = host.xen(2)
    assert xen.ask("xs-read", "name") == "ok dom2"
    assert xen.ask("xs-read", "domid") == "ok 2"
    vm = xen.ask("xs-read", "vm").split()[1]
    assert xen.ask("xs-read", f"{vm}/uuid") == f"ok {host.domain(2)['uuid']}"
    assert str(uuid.UUID(host.domain(2)["uuid"])) == host.domain(2)["uuid"]
    assert xen.ok("xs-write", "data/x", "1") == 0
    assert xen.ask("xs-write", "name", "other").startswith("error")
    assert xen.ask("xs-read", "/local/domain/1/name").startswith("error")
    assert host.xen(0).ask("xs-read", "/local/domain/1/name") == "ok dom1"


def test_create_and_destroy(host):
    domid = int(host.sim("create", "--name", "work", "--type", "pv").stdout)
    assert domid == 4
    domain = host.domain(4)
    assert (domain["name"], domain["type"], domain["state"]) == ("work", "pv", "running")
    assert host.sim("create", "--name", "work", check=False).returncode == 1
    host.sim("destroy", "work")
    assert host.domain(4) is None
    # Domids aren't used again.
    assert int(host.sim("create", "--name", "work").stdout) == 5


def test_destroy_leaves_no_process(host):
    sleeper = host.spawn(1, "/bin/sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & echo up; wait", stdout=subprocess.PIPE)
    assert sleeper.stdout.readline() == b"up\n"
    wait_for(lambda: host.domain(1)["processes"] == 3, "the three processes")
    host.sim("destroy", 1)
    assert sleeper.wait(timeout=TIMEOUT) == -signal.SIGKILL
    assert sleeper.stdout.read() == b""


def test_rename_reaches_a_watch_on_the_name(host):
    xen = host.xen(1)
    xen.ok("xs-watch", "name")
    assert xen.ask("xs-event", 5000) == "ok name"
    host.sim("rename", 1, "storage")
    assert xen.ask("xs-event", 5000) == "ok name"
    assert xen.ask("xs-read", "name") == "ok storage"
    assert host.domain(1)["name"] == "storage"


def stat_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return stat.read().rsplit(")", 1)[1].split()


def test_pause_stops_all_processes_and_those_started_later(host):
    sleeper = host.sleeper(1)

    def state(pid):
        return stat_of(pid)[0]

    host.sim("pause", 1)
    wait_for(lambda: state(sleeper.pid) == "T", "the stopped process")
    late = host.spawn(1, "/bin/true")
    wait_for(lambda: state(late.pid) == "T", "the late process")
    host.sim("unpause", 1)
    assert late.wait(timeout=TIMEOUT) == 0
    wait_for(lambda: state(sleeper.pid) == "S", "the process that goes on")


def test_a_stalled_store_answers_nothing_until_it_goes_on(host):
    xen = host.xen(1)
    host.fault("stall-store", 1, "on")
    assert host.list()["store_stalled"]
    xen.tell("xs-read", "name")
    assert not xen.answers_within(0.3)
    host.fault("stall-store", 1, "off")
    assert xen.answer() == "ok dom1"


def test_a_lost_store_can_be_connected_to_anew(host):
    before, other = host.xen(1), host.xen(2)
    other.ok("xs-watch", "/local/domain/1/data")
    other.ok("xs-event", 1000)  # of the watch itself
    before.ok("xs-watch", "data")
    before.ok("xs-event", 1000)
    assert host.domain(1)["xenstore"]["watches"] == host.domain(1)["xenstore"]["connections"] == 1
    host.fault("lose-store", 1)
    wait_for(lambda: host.domain(1)["xenstore"]["connections"] == 0, "it is closed")
    assert host.domain(1)["xenstore"]["watches"] == 0
    assert before.ask("xs-read", "name").startswith("error")
    assert host.xen(1).ok("xs-read", "name") == "dom1"
    assert other.ok("xs-read", "name") == "dom2"
    assert host.domain(2)["xenstore"]["watches"] == 1


def hypervisor_of(host):
    """The process that plays it."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.path.join(host.dir, "xensim.sock"))
        return struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def test_the_host_sleeps_when_nothing_happens(host):
    def ticks():
        fields = stat_of(hypervisor)
        with open(f"/proc/{hypervisor}/status", encoding="utf-8") as status:
            switches = [int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt")]
        return int(fields[11]) + int(fields[12]), switches[0]

    def slept():
        """Through half a second, once what it had to do is done."""
        before = ticks()
        time.sleep(0.5)
        after = ticks()
        return after[0] - before[0] <= 1 and after[1] - before[1] <= 2

    hypervisor = hypervisor_of(host)
    host.list()
    wait_for(slept, "it sleeps")


@pytest.mark.parametrize("words", [
    [], ["nonsense"], ["start", "--domains"], ["start", "--domains", "x"], ["start", "--domains", "-1"], ["start", "--nonsense"],
    ["start", "extra"], ["exec"], ["exec", "1"], ["exec", "1", "--"], ["exec", "1", "true"], ["create", "--name"],
    ["create", "--name", ""], ["create", "--name", "7"], ["create", "--name", "a b"], ["create", "--type", "hvm"], ["create", "x", "y"],
    ["destroy"], ["destroy", "1", "2"], ["pause"], ["rename", "1"], ["rename", "1", "no/slash"], ["list", "--nonsense"],
    ["fault"], ["fault", "nonsense", "1"], ["fault", "stall-store", "1"], ["fault", "stall-store", "1", "maybe"],
    ["fault", "lose-store", "1", "on"],
    ["fault", "grant-limit", "1"], ["fault", "grant-limit", "1", "many"], ["fault", "evtchn-limit", "1", "99999"],
    ["fault", "lose-event", "1", "-1"], ["fault", "corrupt-ring-index", "1", "left=1"], ["stop", "now"],
], ids=" ".join)
def test_bad_arguments_get_one_line_and_status_2(host, words):
    done = host.sim(*words, check=False)
    assert done.returncode == 2, done
    assert done.stdout == "" and len(done.stderr.strip().splitlines()) == 1, done
    assert done.stderr.startswith("xensim")


@pytest.mark.parametrize("words", [["destroy", "99"], ["destroy", "nobody"], ["destroy", "0"], ["pause", "0"], ["suspend", "0"],
                                   ["resume", "1"], ["exec", "99", "--", "true"], ["fault", "lose-event", "99"]], ids=" ".join)
def test_commands_that_cannot_be_done_say_why(host, words):
    done = host.sim(*words, check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done


def test_without_a_host_the_error_says_what_to_do():
    done = xensim("list", env=environment_of("/nonexistent"))
    assert done.returncode == 1
    assert "xensim start" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_directory_too_long_for_sockets_is_named_with_limit():
    for size, works in ((82, True), (83, False), (150, False)):
        path = tempfile.mkdtemp(prefix="x", dir="/tmp")
        os.rmdir(path)
        path += "x" * (size - len(path))
        done = xensim("start", "--dir", path)
        assert (done.returncode == 0) == works, done
        if works:
            assert xensim("stop", env=environment_of(path)).returncode == 0
        else:
            assert path in done.stderr and "at most 82 bytes" in done.stderr and len(done.stderr.splitlines()) == 1
        assert not os.path.exists(path)


def test_a_malformed_request_ends_that_client_alone(host):
    xen = host.xen(1)
    for packet in (b"x", b"\xff" * 36, b"\0" * 5000, bytes([3]) + b"\0" * 31, b"\x03\0\0\0" + b"\xff" * 28):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.settimeout(10)
            connection.connect(os.path.join(host.dir, "dom-1", "hv.sock"))
            connection.send(packet)
            # An answer with an error, or the end.
            answer = connection.recv(4096)
            assert answer == b"" or answer[3] == 0xff
    assert xen.ok("evtchn-open") == 0


def test_a_thousand_domains_cost_little(make_host):
    host = make_host(domains=1000)
    with open(f"/proc/{hypervisor_of(host)}/status", encoding="ascii") as status:
        kib = int(re.search(r"VmRSS:\s*(\d+) kB", status.read()).group(1))
    assert kib < 1000 * 1024
    host.sim("stop")
    assert not os.path.exists(host.dir)
