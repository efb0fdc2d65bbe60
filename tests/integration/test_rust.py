# SPDX-License-Identifier: LGPL-2.1-or-later
"""The Rust crate: its declarations beside the header, what it promises, its examples, its packages.

Each test of bindings/rust/tests/domain.rs runs in a simulated domain, under its own name.
"""

import os
import re
import shutil
import subprocess

import pytest

from messaging import BUILDDIR, EXIT_ANSWERED, EXIT_TIMEOUT, EXIT_UNKNOWN, PATIENCE, SOURCES, eventually, feed, given_time, read_source

CRATE = os.path.join(SOURCES, "bindings", "rust")
if not (shutil.which("cargo") and shutil.which("rustc")):
    pytest.skip("there is no cargo and rustc", allow_module_level=True)
TARGET = os.path.join(BUILDDIR, "rust")
LIBRARY = os.path.join(BUILDDIR, ".libs")


def cargo(*words, **environment):
    """From the sources as they are, with no registry, warnings being errors; the crate's Cargo.lock must be right."""
    done = subprocess.run(["cargo", words[0], "--locked", "--offline", "--target-dir", TARGET, *words[1:]], cwd=CRATE, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, XENMSG_LIB_DIR=LIBRARY, RUSTFLAGS="-D warnings", RUSTDOCFLAGS="-D warnings",
                                   LD_LIBRARY_PATH=f"{LIBRARY}:{os.environ.get('LD_LIBRARY_PATH', '')}", **environment))
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module", name="built")
def build():
    """The program with the tests, and a folder with the examples."""
    output = cargo("test", "--no-run", "--test", "domain")
    cargo("build", "--examples")
    return os.path.join(CRATE, re.search(r"Executable .*\((.*)\)", output)[1]), os.path.join(TARGET, "debug", "examples")


def in_domain(program):
    return "env", f"LD_LIBRARY_PATH={LIBRARY}", "RUST_BACKTRACE=1", program


# ---- beside the header ----

TYPES = {"int": "c_int", "unsigned": "c_uint", "char": "c_char", "void": "c_void", "uint32_t": "u32", "uint64_t": "u64",
         "size_t": "usize", "ssize_t": "isize"}


def rust_type(declared):
    """Of a C type, as ffi.rs writes it."""
    words = declared.replace("*", " * ").split()
    pointee, stars = [word for word in words if word not in ("*", "struct", "const")][0], words.count("*")
    named = TYPES.get(pointee, pointee)
    for i in range(stars):
        named = ("*const " if "const" in words and i == 0 else "*mut ") + named
    return named


def c_parameter(declared):
    return rust_type(re.sub(r"\w+$", "", declared.strip()))


def header_functions():
    header = re.sub(r"/\*.*?\*/", " ", read_source("include", "xenmsg.h") + read_source("include", "xenmsg-stream.h"), flags=re.S)
    functions = {}
    for kind, stars, name, parameters in re.findall(r"XENMSG_API\s+(?:XENMSG_CHECK\s+)?([\w ]+?)\s*(\**)\s*(xenmsg_\w+)\(([^;]*)\);",
                                                    header):
        given = [] if parameters.strip() == "void" else [c_parameter(parameter) for parameter in parameters.split(",")]
        functions[name] = (given, rust_type(kind + stars))
    for name, parameters in re.findall(r"typedef void \(\*(xenmsg_\w+)\)\(([^;]*)\);", header):
        functions[name] = ([c_parameter(parameter) for parameter in parameters.split(",")], "c_void")
    return functions


def is_a_type(name):
    return "typedef" in re.search(rf"[^;]*\b{name}\)?\(", read_source("include", "xenmsg.h") + read_source("include", "xenmsg-stream.h"))[0]


def declared_functions():
    ffi = read_source("bindings", "rust", "src", "ffi.rs")
    functions = {}
    for name, parameters, kind in re.findall(r"pub fn (xenmsg_\w+)\(([^)]*)\)(?: -> ([^;]+))?;", ffi):
        given = [parameter.split(":")[1].strip() for parameter in parameters.split(",") if parameter.strip()]
        functions[name] = (given, kind or "c_void")
    for name, parameters in re.findall(r'pub type (xenmsg_\w+) = Option<unsafe extern "C" fn\(([^)]*)\)>;', ffi):
        functions[name] = ([parameter.strip() for parameter in parameters.split(",")], "c_void")
    return functions


def test_each_declared_function_is_as_the_header_has_it():
    header, declared = header_functions(), declared_functions()
    assert len(declared) > 50
    assert declared == {name: header.get(name) for name in declared}


def test_sizes_offsets_and_constants_are_the_compilers(tmp_path):
    asserts = re.findall(r"_Static_assert\(.*\);", cargo("test", "--lib", "--", "ffi::", "--nocapture"))
    assert len(asserts) > 50
    for name, value in re.findall(r"pub const (XENMSG_\w+|E[A-Z]+): \w+ = ([\w:]+);", read_source("bindings", "rust", "src", "ffi.rs")):
        asserts.append(f'_Static_assert({name} == {value.replace("c_int::MIN", "INT_MIN")}, "{name}");')
    assert len(asserts) > 90
    source = tmp_path / "layout.c"
    source.write_text("#include <errno.h>\n#include <limits.h>\n#include <stddef.h>\n#include <xenmsg-stream.h>\n" + "\n".join(asserts))
    checked = subprocess.run(["cc", "-std=gnu11", "-fsyntax-only", f"-I{SOURCES}/include", source], check=False, text=True,
                             stderr=subprocess.PIPE)
    assert checked.returncode == 0, checked.stderr


def test_the_page_says_of_each_function_which_it_is_in_rust():
    rows = re.findall(r"^\| (`xenmsg_\w+\(\)`.*?) \| (.*) \|$", read_source("doc", "rust.md"), re.M)
    named = [name for functions, _ in rows for name in re.findall(r"(xenmsg_\w+)\(\)", functions)]
    functions = {name for name in header_functions() if f"{name}(" in read_source("doc", "rust.md")}
    assert len(named) == len(set(named)) and set(named) == functions
    assert {name for name in header_functions() if not is_a_type(name)} == functions
    used = "".join(read_source("bindings", "rust", "src", name) for name in os.listdir(os.path.join(CRATE, "src")) if name != "ffi.rs")
    left_out = {name for functions, rust in rows if "`" not in rust for name in re.findall(r"(xenmsg_\w+)\(\)", functions)}
    assert {name for name in functions if not re.search(rf"ffi::{name}\b", used)} == left_out


# ---- what it promises ----

@pytest.mark.parametrize("name", re.findall(r"#\[test\]\nfn (\w+)\(", read_source("bindings", "rust", "tests", "domain.rs")))
def test_in_a_domain(one, built, name):
    done = one.run_command(*in_domain(built[0]), "--exact", name, "--nocapture")
    assert done.returncode == 0 and b"1 passed" in done.stdout, (done.stdout + done.stderr).decode(errors="replace")


def test_misuse_does_not_compile_and_no_link_is_broken():
    """The unit tests, and the examples in the documentation, some of which must not compile."""
    assert re.search(r"[1-9]\d* passed; 0 failed", cargo("test", "--lib"))
    output = cargo("test", "--doc")
    assert "compile fail" in output and re.search(r"[1-9]\d* passed; 0 failed", output), output
    cargo("doc", "--no-deps")


# ---- its examples ----

@pytest.fixture(name="example")
def example_in_a_domain(built):
    """The words that run an example there."""
    return lambda name: in_domain(os.path.join(built[1], name))


def test_request_and_reply_with_the_command_at_the_other_end(one, two, example):
    two.popen_command(*example("request_reply"), "serve", "turn", stdin=subprocess.DEVNULL, binds="turn")
    assert one.xenmsg("call", "2:turn", "stressed").stdout == b"desserts"
    refused = one.xenmsg("call", "2:turn", "--file", "/bin/true")
    assert refused.returncode == EXIT_ANSWERED and b"that is no text" in refused.stderr, refused
    done = one.run_command(*example("request_reply"), "call", "2:turn", "drawer")
    assert (done.returncode, done.stdout) == (0, b"reward\n"), done.stderr
    done = one.run_command(*example("request_reply"), "call", "2:nothing", "x")
    assert done.returncode == 1 and done.stderr.startswith(b"request_reply: 2:nothing: "), done.stderr


def test_an_executor_passes_many_calls_on_at_a_time(one, two, three, example):
    three.popen_command(*example("request_reply"), "serve", "turn", stdin=subprocess.DEVNULL, binds="turn")
    two.popen_command(*example("executor"), "front", "3:turn", stdin=subprocess.DEVNULL, binds="front")
    calls = [one.popen("call", "2:front", f"number {i}") for i in range(20)]
    for i, call in enumerate(calls):
        assert call.communicate(timeout=60 * PATIENCE) == (f"number {i}"[::-1].encode(), b"")
    refused = one.xenmsg("call", "2:front", "--file", "/bin/true")
    assert refused.returncode == EXIT_ANSWERED and b"that is no text" in refused.stderr, refused


def test_a_task_ends_with_its_caller(one, two, example, tmp_path):
    with open(tmp_path / "busy", "wb") as file:
        two.popen_command(os.path.join(BUILDDIR, "examples", "busy"), "work", stdout=file, binds="work")
    two.popen_command(*example("executor"), "front", "self:work", stdin=subprocess.DEVNULL, binds="front")
    assert one.xenmsg("call", "2:front", "1").stdout == b"done"

    def is_stopped(seconds):
        late = one.xenmsg("call", "--timeout", seconds, "2:front", "1000000")
        assert late.returncode in (EXIT_UNKNOWN, EXIT_TIMEOUT), late.stderr  # the latter if it wasn't there yet
        return "stopped: the caller has gone; 0 left" in (tmp_path / "busy").read_text()
    given_time(is_stopped)


def test_an_agent_lives_through_the_death_of_its_daemon(one, example, tmp_path):
    with open(tmp_path / "out", "wb") as file:
        one.popen_command(*example("agent"), "agent", stdin=subprocess.DEVNULL, stdout=file, binds="agent")

    def prints(words):
        eventually(lambda: words in (tmp_path / "out").read_text(), words)
    assert one.xenmsg("call", "self:agent", "x").stdout == b"1 calls in 0 restarts"
    one.kill()
    prints("the daemon is lost")
    one.start()
    prints("there is a daemon again")
    assert one.xenmsg("call", "self:agent", "x").stdout == b"2 calls in 1 restarts"


def test_streams_of_a_connection_echo_and_break(one, two, example):
    two.popen_command(*example("echo"), "serve", "mirror", stdin=subprocess.DEVNULL, binds="mirror")
    echo = example("echo")
    many = b"".join(b"line %d %s\n" % (i, b"x" * i) for i in range(1500)) + b"a last one without its end"
    done = one.run_command(*echo, "call", "2:mirror", data=many)
    assert (done.returncode, done.stdout == many, done.stderr) == (0, True, b"")
    assert one.xenmsg("connect", "2:mirror", data=many).stdout == many
    done = one.run_command(*echo, "call", "2:nothing", data=b"")
    assert done.returncode == 1 and done.stderr.startswith(b"echo: 2:nothing: "), done.stderr
    client = one.popen_command(*echo, "call", "2:mirror", **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE))
    feed(client, b"there\n")
    assert client.stdout.readline() == b"there\n"
    two.kill()
    client.stdin.write(b"again\n")
    assert client.communicate(timeout=60 * PATIENCE)[1].startswith(b"echo: 2:mirror: ") and client.returncode == 1


def test_a_publisher_and_its_subscribers(one, two, example, tmp_path):
    topic = example("topic")

    def prints(words, name="early"):
        eventually(lambda: words in (tmp_path / name).read_text(), words)

    def subscribe(name):
        with open(tmp_path / name, "wb") as file:
            one.popen_command(*topic, "subscribe", "2:sensors", stdin=subprocess.DEVNULL, stdout=file)
    subscribe("early")
    prints("the topic isn't there")
    publisher = two.popen_command(*topic, "publish", "sensors", stdin=subprocess.PIPE)
    prints("from here on all of it, after 0")
    feed(publisher, "attic 1\n\n no key\ngrün 5\nnothing\ncellar 2\nattic 3\n".encode())
    prints("attic: 1\ncellar: 2\nattic: 3\n")
    subscribe("late")
    prints("from here on all of it, after 3\ncellar: 2\nattic: 3\n", "late")
    publisher.communicate(timeout=60 * PATIENCE)
    prints("attic: 3\nthe topic isn't there")
    prints("attic: 3\nthe topic isn't there", "late")


# ---- its page, and the folder in which it is installed ----

def test_the_program_of_the_page_builds_with_what_is_installed(tmp_path):
    page = read_source("doc", "rust.md")
    manifest, config, program = re.findall(r"```(?:toml|rust)\n(.*?)```", page, re.S)
    registry = os.path.join(os.path.dirname(os.environ.get("XENMSG_BINDIR", "")), "share", "cargo", "registry")
    assert os.path.isdir(registry), registry
    for path, content in (("Cargo.toml", manifest), (".cargo/config.toml", config.replace("/usr/share/cargo/registry", registry)),
                          ("src/main.rs", program)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(content)
    done = subprocess.run(["cargo", "build", "--offline", "--target-dir", tmp_path / "target"], cwd=tmp_path, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          env=dict(os.environ, XENMSG_LIB_DIR=LIBRARY, RUSTFLAGS="-D warnings"))
    assert done.returncode == 0, done.stdout
