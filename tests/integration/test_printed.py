# SPDX-License-Identifier: LGPL-2.1-or-later
"""What README.md and doc/ print for people to type works as it is printed."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from messaging import BINDIR, BUILDDIR, PATIENCE, SBINDIR, SOURCES, Node, eventually, read_source, tool

# As an ordinary user has it: xensim finds daemons itself.
IN_PATH = {"PATH": ":".join([BINDIR, *(entry for entry in os.environ["PATH"].split(":") if not entry.rstrip("/").endswith("/sbin"))])}


def blocks(name, after=""):
    """The blocks between ``` behind some words."""
    text = read_source(name)
    return re.findall(r"^```\w*\n(.*?)^```$", text.partition(after)[2] if after else text, re.M | re.S)


def in_domain(node, line, directory, **options):
    """Starts a line as one types it there."""
    return subprocess.Popen(node.command("bash", "-c", line), cwd=directory, env=dict(node.environment, **IN_PATH), **options)


def test_each_printed_block_has_its_case_on_a_fresh_debian():
    """tests/packaged/run tries them there at night; that some block has none is told at once."""
    done = subprocess.run([sys.executable, "-Bc", "import cases; cases.each_printed_block_is_run_or_has_its_reason(None)"],
                          cwd=os.path.join(SOURCES, "tests", "packaged"), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not BINDIR, reason="on what is installed")
def test_the_commands_of_the_readme_work_with_its_policy(make_host, tmp_path):
    commands, policy = blocks("README.md", "## Use it")[:2]
    host = make_host(5)
    three, five = Node(host, 3, tmp_path, policy=None), Node(host, 5, tmp_path, policy=policy)
    (tmp_path / "picture.jpg").write_bytes(os.urandom(3000000))
    (tmp_path / "names.txt").write_text("pear\nfig\napple\n")
    served = {"recv": "inbox", "serve": "upper", "listen": "sort"}
    shown = {"call": b"HELLO", "connect": b"apple\nfig\npear\n", "ping": b"4 of 4 answered", "peers": b"0.2.0", "endpoints": b"upper",
             "status": b'"domid":3', "policy": b"allow: "}
    tried = set()
    try:
        three.start()
        five.start()
        three.sees(five)
        for line in commands.splitlines():
            command = line.split()[1]
            assert line.startswith("xenmsg ") and command not in tried - {"send"}, line
            tried.add(command)
            if command in served:
                process = in_domain(five, line, tmp_path, stdout=subprocess.DEVNULL)
                five.children.append(process)
                eventually(lambda name=served[command]: name in five.endpoints(), f"{line}: it is bound")
                continue
            process = in_domain(three, line, tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            if command == "watch":
                five.children.append(in_domain(five, "xenmsg recv print", tmp_path))
                assert b"up endpoint 5:print" in process.stdout.readline()
                process.terminate()
            out = process.communicate(timeout=30 * PATIENCE)[0]
            assert command == "watch" or process.returncode == 0, line
            assert shown.get(command, b"") in out, (line, out)
        assert tried >= served.keys() | {"send", "call", "connect", "peers", "endpoints", "ping", "watch", "status"}
        line, = re.findall(r"`(xenmsg policy check [^`]*)`", read_source("README.md"))
        assert subprocess.run(five.command(*line.split()), env=dict(five.environment, **IN_PATH), check=False).returncode == 0
    finally:
        for node in (three, five):
            node.end()


@pytest.mark.skipif(not BINDIR, reason="on what is installed")
def test_the_session_with_the_simulator_works(tmp_path):
    session = blocks("doc/xensim.md")[0]
    assert "sleep" not in session
    environment = dict(os.environ, **IN_PATH, XDG_RUNTIME_DIR=str(tmp_path))
    environment.pop("XENSIM_DIR", None)
    done = subprocess.run(["bash", "-ec", session], env=environment, capture_output=True, text=True, timeout=60 * PATIENCE,
                          check=False)
    assert done.returncode == 0, done
    assert re.search(r"^hello$", done.stdout, re.M) and "Domain-0" in done.stdout
    assert not os.path.exists(tmp_path / "xensim")


def example_of_page(name):
    return re.search(r"^\.SH EXAMPLES?\n\.nf\n(.*?)^\.fi$", read_source("doc", name), re.M | re.S)[1].replace("\\-", "-").replace("\\e", "\\")


def test_the_examples_of_files_in_manual_pages_are_good_files(nodes, tmp_path):
    one = nodes(1, start=False)[1]
    path = tmp_path / "printed.conf"
    path.write_text(example_of_page("xenmsgd.conf.5"))
    done = one.run_command(tool("xenmsgd"), "--check-config", "--config", path)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
    one.policy = example_of_page("xenmsg-policy.5")
    one.start()
    assert "policy: 2 rules" in one.log.read_text()
    assert one.xenmsg("policy", "check", "3", "scanner").returncode == 0


def test_the_example_of_the_library_compiles_and_works(one, tmp_path):
    source = tmp_path / "printed.c"
    source.write_text("#include <stdio.h>\n#include <string.h>\n#include <xenmsg.h>\nint main(void)\n{\n"
                      + example_of_page("xenmsg.3").replace("5:inbox", "self:inbox") + "return r != 0;\n}\n")
    prefix = os.path.dirname(BINDIR) if BINDIR else None
    library = os.environ.get("XENMSG_LIBDIR") or f"{prefix}/lib"
    where = [f"-I{prefix}/include", f"-L{library}", f"-Wl,-rpath,{library}"] if prefix else []
    built = subprocess.run(["cc", "-Wall", "-Werror", "-o", tmp_path / "printed", source, *where, "-lxenmsg"], check=False)
    assert built.returncode == 0
    inbox = one.receiver("inbox", "--count", "1")
    assert one.run_command(tmp_path / "printed").returncode == 0
    assert inbox.output() == b"hello\n"
    failed = one.run_command(tmp_path / "printed")
    assert failed.returncode == 1 and failed.stderr.startswith(b"self:inbox: ")


@pytest.mark.skipif(not BINDIR, reason="on what is installed")
def test_the_tutorial_works(tmp_path):
    """Its blocks in their order: programs become the files that their first lines name, the rest is typed."""
    python = os.environ.get("XENMSG_PYTHONDIR", "")
    if not os.path.isdir(os.path.join(python, "xenmsg")):
        pytest.skip("the Python module isn't installed")
    script = "set -e\n"
    found = re.findall(r"^```(\w+)\n(.*?)^```$", read_source("doc", "tutorial.md"), re.M | re.S)
    for kind, block in found:
        name = re.match(r"(?:# |/\* )([a-z.]+): ", block)
        if kind == "sh":
            script += block
        else:
            script += f"cat >{name[1]} <<'END-OF-FILE'\n{block}END-OF-FILE\n"
    library = os.environ.get("XENMSG_LIBDIR") or os.path.join(os.path.dirname(BINDIR), "lib")
    environment = dict(os.environ, **IN_PATH, PYTHONPATH=python, PKG_CONFIG_PATH=os.path.join(library, "pkgconfig"), LD_LIBRARY_PATH=library)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    lines = [line for line in done.stdout.splitlines() if not re.fullmatch(r"\((waiting|subscribed|kept)\)", line)]
    at = lines.index("kept")
    assert lines[at:] == ["kept", "buy milk", "buy milk", "water the plants", "exit status 3", "exit status 10", "read xenmsg(3)"] + 3 * [
        "the notes move on Sunday"], done
    assert done.stderr.count("(certainly not done)") == 1 and "add TEXT, or list" in done.stderr
    assert [kind for kind, _ in found] == ["sh", "c", "sh", "python", "sh", "sh", "python", "sh", "python", "sh"]


# ---- HACKING.md ----

BARE = {"make", "git", "gdb", "xensim", "xenmsg", "xenmsgd", "dpkg-buildpackage", "rpmbuild"}


def commands_of_page(name):
    """What the page prints to be typed: the lines of its blocks, and what stands between `` and begins with a program, or has
    an option."""
    parts = re.split(r"^```\w*\n(.*?)^```$", read_source(name), flags=re.M | re.S)
    lines = [line for block in parts[1::2] for line in block.splitlines()]
    for text in parts[::2]:
        lines += [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]
    for line in lines:
        for command in re.split(r" && | ; ", line.partition(" # ")[0].rstrip(" &")):
            words = shlex.split(command)
            script = os.path.join(SOURCES, words[0])
            is_script = "/" in words[0] and os.path.isfile(script) and os.access(script, os.X_OK)
            if not words[0].startswith("-") and (words[0] in BARE or is_script or any(word.startswith("--") for word in words)):
                yield words


def is_fixed(word):
    """It is to be typed as it is, and nothing that a reader puts in its place."""
    return re.fullmatch(r"-{0,2}[a-z][a-z-]*", word)


def try_to_build(arguments):
    targets = [word for word in arguments if "=" not in word and "NAME" not in word and not word.startswith("-")]
    settings = dict(word.split("=", 1) for word in arguments if "=" in word)
    with open(os.path.join(BUILDDIR, "Makefile"), encoding="utf-8") as file:
        known = file.read()
    for target in targets:
        assert re.search(rf"^([\w-]+ )*{target}(\$\(EXEEXT\))?( [\w-]+)*:", known, re.M), target
    if "PYTEST_TESTS" in settings:
        tests = settings["PYTEST_TESTS"].replace("$PWD/..", SOURCES)
        subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--collect-only", *shlex.split(settings["PYTEST_FLAGS"]),
                        tests], check=True, stdout=subprocess.DEVNULL)


def try_on_a_unit_test(name):
    """gdb, which is asked a question."""
    subprocess.run(["make", "-s", name], cwd=BUILDDIR, check=True, stdout=subprocess.DEVNULL)
    asked = ["gdb", "-batch", "-ex", "info line main", name]
    assert "unit_main.c" in subprocess.run(asked, cwd=BUILDDIR, check=True, capture_output=True, text=True).stdout


def try_to_find(program, arguments):
    """There is such a program, and it knows these words."""
    script = os.path.join(SOURCES, re.sub(r"^(\.\./|\./)", "", program))
    if "/" in program or program == "configure":
        assert os.access(script, os.X_OK), program
        with open(script, encoding="utf-8") as file:
            known = file.read()
    else:
        assert shutil.which(program, path=f"{IN_PATH['PATH']}:{SBINDIR}"), program
        known = subprocess.run([program, *arguments[:1], "--help"] if program == "xenmsg" else [program, "--help"], capture_output=True,
                               env=dict(os.environ, PATH=f"{IN_PATH['PATH']}:{SBINDIR}"), text=True, check=True).stdout
    for word in arguments[:arguments.index("--") if "--" in arguments else None]:
        if is_fixed(word) and not (program == "xenmsg" and word == arguments[0]):
            assert re.search(rf"(?<![\w-]){word}(?![\w-])", known), (program, word)


@pytest.mark.skipif(not BINDIR or not os.path.exists(os.path.join(BUILDDIR, "libtool")), reason="on what is installed and built here")
def test_the_commands_of_hacking_md_are_there():
    """They build, boot and measure for hours, so it is only tried whether what they name is there, and known to who is named."""
    tried = set()
    for program, *arguments in commands_of_page("HACKING.md"):
        is_of_a_unit_test = program == "gdb" and "tests/unit/" in arguments[-1]
        tried.add("gdb tests/unit/…" if is_of_a_unit_test else program)
        if program == "make":
            try_to_build(arguments)
        elif is_of_a_unit_test:
            try_on_a_unit_test(arguments[-1])
        elif program not in ("mkdir", "cd", "git", "gdb", "dpkg-buildpackage", "rpmbuild"):  # of others, which aren't all installed
            try_to_find(program, arguments)
    assert tried >= {"make", "gdb tests/unit/…", "xensim", "xenmsg", "scripts/check", "bench/run", "tests/xen/run"}
