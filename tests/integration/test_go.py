# SPDX-License-Identifier: LGPL-2.1-or-later
"""The package for Go: its tests, which have two domains, its words beside the library's, its examples and its page."""

import ctypes
import errno
import fcntl
import os
import re
import shutil
import subprocess

import pytest

from messaging import BINDIR, BUILDDIR, PATIENCE, SOURCES, read_source, tool
from test_chaos import ChaosOfDomains, play_of_domains

PACKAGE = os.path.join(SOURCES, "bindings", "go")
if not shutil.which("go"):
    pytest.skip("there is no go", allow_module_level=True)
# Nothing is fetched; the cache is the build's own. Only the race detector needs C.
ENVIRONMENT = {"GOCACHE": os.path.join(BUILDDIR, "go", "cache"), "GOPROXY": "off", "GOFLAGS": "-mod=mod", "GO111MODULE": "on", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}


def go(*words, where=PACKAGE, **environment):
    os.makedirs(os.path.dirname(ENVIRONMENT["GOCACHE"]), exist_ok=True)
    with open(ENVIRONMENT["GOCACHE"] + ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # what one has compiled the next one finds there
        done = subprocess.run(["go", *words], cwd=where, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env={**os.environ, **ENVIRONMENT, **environment})
    assert done.returncode == 0, done.stdout
    return done.stdout


def chaos(host, tmp_path, request, *others):
    """With the race detector; two such plays last as long as one of C programs, and go on at the same time."""
    class ChaosInGo(ChaosOfDomains):
        programs = (tmp_path / "chaos-in-go", *others)
    go("build", "-race", "-o", ChaosInGo.programs[0], "./internal/chaos", CGO_ENABLED="1")
    play_of_domains(ChaosInGo, host, tmp_path, request, 30)


# Three workers get two tests each, and then one after the other: so each play has one of its own.
@pytest.mark.slow
def test_chaos_with_programs_in_go(host, tmp_path, request):
    chaos(host, tmp_path, request)


def test_its_words_for_errors_are_the_librarys():
    library = ctypes.CDLL(os.path.join(BUILDDIR, ".libs", "libxenmsg.so.1"))
    library.xenmsg_error_text.restype = ctypes.c_char_p
    words = re.findall(r'syscall\.(E\w+):\s+"(.*)",', read_source("bindings", "go", "errors.go"))
    assert len(words) > 15
    assert words == [(name, library.xenmsg_error_text(getattr(errno, name)).decode()) for name, _ in words]


@pytest.mark.slow
def test_chaos_with_programs_in_go_and_in_c(host, tmp_path, request):
    chaos(host, tmp_path, request, tool("chaos-program"))


def test_its_words_for_causes_are_the_librarys():
    ours = set(re.findall(r'"([^"\n]+)"', read_source("bindings", "go", "stream.go")))
    library = read_source("wire", "advice.c")
    theirs = re.findall(r'WORDS\([A-Z_]+, "([^"]+)"\)', library) + re.findall(r'"(the [^"]+)"', library)
    assert len(theirs) > 20 and set(theirs) <= ours | {"the program there has ended it before anything came, as a server of 'xenmsg run' "}


@pytest.fixture(scope="module", name="program")
def build(tmp_path_factory):
    """The tests, with the race detector."""
    program = tmp_path_factory.mktemp("go") / "xenmsg.test"
    go("test", "-c", "-race", "-o", program, CGO_ENABLED="1")
    return program


def start(program, *nodes, tests=".", **environment):
    """It needs the sockets alone, and so runs in no domain."""
    sockets = {f"XENMSG_TEST_{node.domid}": node.socket for node in nodes}
    return subprocess.Popen([program, "-test.run", tests, "-test.timeout", f"{300 * PATIENCE:.0f}s"], cwd=PACKAGE, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ, **sockets, **environment))


def test_what_it_promises_in_two_domains(one, two, program):
    tests = start(program, one, two)
    output = tests.communicate()[0]
    assert tests.returncode == 0, output[-20000:]


def test_it_is_as_gofmt_vet_and_staticcheck_want_it():
    assert subprocess.run(["gofmt", "-l", PACKAGE], check=True, capture_output=True).stdout == b""
    go("vet", "./...")
    if shutil.which("go-staticcheck"):
        done = subprocess.run(["go-staticcheck", "./..."], cwd=PACKAGE, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=dict(os.environ, **ENVIRONMENT))
        assert done.returncode == 0, done.stdout


def test_it_needs_no_c_and_builds_for_others():
    go("build", ".", GOARCH="arm")


GRPC = "/usr/share/gocode/src/google.golang.org/grpc/health"


@pytest.mark.skipif(not os.path.isdir(GRPC), reason="there is no gRPC for Go")
def test_grpc_runs_over_streams(one, two, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "xenmsg").symlink_to(PACKAGE)
    go("build", "-tags", "grpc", "-o", tmp_path / "grpc-program", os.path.join(PACKAGE, "internal", "grpc", "main.go"), where=tmp_path,
       GO111MODULE="off", GOFLAGS="", GOPATH=f"{tmp_path}:/usr/share/gocode")
    done = subprocess.run([tmp_path / "grpc-program"], check=False, capture_output=True, timeout=60 * PATIENCE,
                          env=dict(os.environ, XENMSG_TEST_1=one.socket, XENMSG_TEST_2=two.socket))
    assert done.stdout == b"SERVING\n", done.stderr


def test_it_outlives_its_daemon(one, program):
    tests = start(program, one, tests="TestAConnectionOutlivesItsDaemon", XENMSG_TEST_KILLS="1")
    assert tests.stdout.readline() == "kill\n", tests.communicate()[0]
    one.kill()
    one.start()
    output = tests.communicate()[0]
    assert tests.returncode == 0, output


def test_the_programs_of_the_page_run_with_what_is_installed(one, two, tmp_path):
    page = read_source("doc", "go.md")
    installed = os.path.join(os.path.dirname(BINDIR), "share", "gocode", "src", "xenmsg")
    module, = re.findall(r"```\n(module .*?)```", page, re.S)
    for name, program in zip(("notes", "note"), re.findall(r"```go\n(.*?)```", page, re.S)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "go.mod").write_text(module.replace("/usr/share/gocode/src/xenmsg", installed))
        (tmp_path / name / "main.go").write_text(program)
        go("build", "-o", tmp_path / f"{name}.program", ".", where=tmp_path / name)
    service = two.popen_command(tmp_path / "notes.program", binds="notes")
    done = one.run_command(tmp_path / "note.program", "water", "the", "plants")
    assert (done.returncode, done.stdout) == (0, b"water the plants\n"), done.stderr
    assert one.xenmsg("call", "2:notes", "nonsense").stderr.rstrip().endswith(b"add TEXT, or list")
    assert b"(the program there has answered)" in one.run_command(tmp_path / "note.program").stderr
    service.terminate()
    assert service.wait(60 * PATIENCE) == 0
    done = one.run_command(tmp_path / "note.program", "x")
    assert done.returncode == 1 and b"(certainly not done)" in done.stderr, done.stderr
