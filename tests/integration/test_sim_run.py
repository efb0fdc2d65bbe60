# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xensim run`: a host for one command, as test suites of others use it; and the help of each command."""

import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile

import pytest

from conftest import TIMEOUT, environment_of, has_ended, program, wait_for, xensim
from messaging import SOURCES

COMMANDS = ["run", "start", "exec", "create", "destroy", "shutdown", "crash", "pause", "unpause", "suspend", "resume", "checkpoint", "migrate", "rename",
            "list", "record", "trace", "compare", "fault", "xsm", "stop"]
PATH = os.path.dirname(program("xensim")) + ":" + os.environ["PATH"]


@pytest.fixture
def runtime():
    """Where the hosts of this test are, and none of any other."""
    path = tempfile.mkdtemp(prefix="xr-")
    yield path
    assert not os.listdir(path), "a host has left its directory"
    os.rmdir(path)


def command(runtime, *words, **options):
    environment = dict(os.environ, PATH=PATH, XDG_RUNTIME_DIR=runtime)
    environment.pop("XENSIM_DIR", None)
    return subprocess.Popen([program("xensim"), "run", *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, **options)


def run(runtime, *words):
    process = command(runtime, *words)
    out, error = process.communicate(timeout=2 * TIMEOUT)
    return process.returncode, out, error


def test_the_command_finds_its_host(runtime):
    done = run(runtime, "--domains", "2", "--", "sh", "-c", "xensim exec 1 -- xenstore-read name; xensim exec dom2 -- xenstore-read "
               "domid; xensim exec 3 -- true; echo $XENSIM_DIR")
    assert done[0] == 0 and "no domain 3" in done[2]
    name, domid, directory = done[1].split()
    assert (name, domid) == ("dom1", "2") and os.path.dirname(directory) == runtime


def test_the_exit_status_is_the_commands(runtime):
    for words, status in ((["sh", "-c", "exit 7"], 7), (["true"], 0), (["/nonexistent"], 127), (["/etc/passwd"], 126),
                          (["sh", "-c", "kill -USR1 $$"], 128 + signal.SIGUSR1), (["sh", "-c", "xensim stop; exit 3"], 3),
                          (["sh", "-c", "exit $#", "0", "--", "a"], 2)):
        assert run(runtime, "--", *words)[0] == status, words


def test_a_bad_argument_runs_nothing(runtime):
    for words in ([], ["true"], ["--"], ["--domains", "x", "--", "true"], ["--domains"], ["--dir", "x", "--", "true"],
                  ["--store", "x", "--", "true"], ["--bad", "--", "true"]):
        status, out, error = run(runtime, *words)
        assert (status, out) == (2, "") and len(error.splitlines()) == 1, words


def test_without_a_host_it_is_125(runtime):
    os.rmdir(runtime)
    try:
        status, _, error = run(runtime, "--", "true")
    finally:
        os.mkdir(runtime)
    assert status == 125 and error.startswith("xensim: cannot create")


def start_sleeper(runtime):
    """Runs a command that leaves a sleeper in domain 1 and ends at the end of its input. Returns both."""
    process = command(runtime, "--domains", "1", "--", "sh", "-c", "xensim exec 1 -- sleep 1000 & echo $!; read line; exit 0",
                      stdin=subprocess.PIPE)
    sleeper = int(process.stdout.readline())
    wait_for(lambda: open(f"/proc/{sleeper}/cmdline", "rb").read() == b"sleep\0001000\0", "the sleeper")
    return process, sleeper


def test_what_still_runs_in_a_domain_is_killed(runtime):
    process, sleeper = start_sleeper(runtime)
    process.communicate(timeout=2 * TIMEOUT)
    assert process.returncode == 0
    wait_for(lambda: has_ended(sleeper), "the end of the sleeper")


def test_a_signal_is_the_commands(runtime):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        process = command(runtime, "--", "sh", "-c", f"trap 'kill -KILL $!; echo caught; exit 5' {number.name[3:]}; sleep 1000 & echo $!; wait")
        process.stdout.readline()
        process.send_signal(number)
        assert process.communicate(timeout=2 * TIMEOUT)[0] == "caught\n", number
        assert process.returncode == 5, number


def test_the_host_ends_with_a_killed_xensim(runtime):
    process, sleeper = start_sleeper(runtime)
    process.kill()
    process.wait()
    wait_for(lambda: not os.listdir(runtime), "the end of the host")
    wait_for(lambda: has_ended(sleeper), "the end of the sleeper")
    process.communicate(timeout=2 * TIMEOUT)


def test_many_run_at_once(runtime):
    processes = [command(runtime, "--domains", "1", "--", "xensim", "exec", "1", "--", "xenstore-read", "name") for _ in range(10)]
    assert [process.communicate(timeout=2 * TIMEOUT)[0] for process in processes] == ["dom1\n"] * 10


def test_each_command_has_help():
    environment = environment_of("/nonexistent")
    everything = xensim("--help", env=environment).stdout
    assert re.findall(r"^  (\w+)", everything, re.MULTILINE) == COMMANDS
    assert max(map(len, everything.splitlines())) <= 110
    for name in COMMANDS:
        for option in ("--help", "-h"):
            done = xensim(name, option, env=environment)
            assert (done.returncode, done.stderr) == (0, "")
            assert re.match(rf"Usage: xensim {name}( .*)?\n[A-Z].*\.\n", done.stdout)
            assert max(map(len, done.stdout.splitlines())) <= 110


def test_the_manual_has_each_command():
    with open(os.path.join(SOURCES, "doc", "xensim.1"), encoding="utf-8") as file:
        text = file.read()
    for name in COMMANDS:
        assert re.search(r"\\fB{}\\fR|\n\.B {}\n|\"xensim {}\"".replace("{}", name), text, re.MULTILINE), f"{name} isn't in the manual"


INSTALLED = pytest.mark.skipif(not os.access(os.path.join(os.environ.get("XENMSG_SBINDIR", ""), "xenmsgd"), os.X_OK), reason="on what is installed")


@INSTALLED
def test_daemons_answer_when_the_command_begins(runtime):
    """And each lets everybody in, with --allow alone."""
    for option, status in (("--allow", 0), ("--daemons", 4)):
        done = run(runtime, "--domains", "2", option, "--", "sh", "-c", "xensim exec 2 -- xenmsg recv --count 1 inbox & "
                   "xensim exec 2 -- xenmsg send --wait self:inbox x; xensim exec 2 -- xenmsg policy check 1 inbox")
        assert done[0] == status and done[1].startswith("x\n"), done


@INSTALLED
def test_a_daemon_that_ends_at_once_is_told_and_leaves_no_host(runtime):
    environment = dict(os.environ, PATH=PATH, XDG_RUNTIME_DIR=runtime, XENSIM_LIBRARY="/nonexistent")
    done = subprocess.run([program("xensim"), "run", "--domains", "1", "--daemons", "--", "true"], env=environment, capture_output=True,
                          text=True, timeout=2 * TIMEOUT, check=False)
    assert done.returncode == 125 and "xenmsgd of domain 0 has ended; " in done.stderr, done


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_exec_becomes_a_user_with_all_groups(runtime):
    name = "nobody"
    groups = set(os.getgrouplist(name, pwd.getpwnam(name).pw_gid))
    done = run(runtime, "--domains", "1", "--", "sh", "-c", f"xensim exec --user {name} 1 -- sh -c 'id -un; id -G; xenstore-read domid'; "
               "xensim exec --user no-such-user 1 -- true")
    assert done[0] == 126 and "there is no user no-such-user" in done[2], done
    assert done[1].splitlines()[0] == name and {int(group) for group in done[1].splitlines()[1].split()} == groups


@INSTALLED
def test_exec_finds_daemons_for_an_ordinary_user(runtime, monkeypatch):
    folders = [folder for folder in PATH.split(":") if not folder.rstrip("/").endswith("sbin")]
    monkeypatch.setattr(sys.modules[__name__], "PATH", ":".join(folders))
    host = command(runtime, "--domains", "1", "--", "xensim", "exec", "1", "--", "xenmsgd", "--version")
    assert host.communicate(timeout=2 * TIMEOUT)[0].startswith("xenmsgd ") and host.returncode == 0


def test_the_page_begins_with_what_works_at_once(runtime):
    with open(os.path.join(SOURCES, "doc", "xensim.md"), encoding="utf-8") as page:
        first, = re.findall(r"^```\n(xensim run --domains 2 -- sh .*?)^```", page.read(), re.M | re.S)
    done = subprocess.run(["bash", "-c", first], env=dict(os.environ, PATH=PATH, XDG_RUNTIME_DIR=runtime), capture_output=True,
                          text=True, timeout=150, check=False)
    assert done.stdout == "world\n", done
