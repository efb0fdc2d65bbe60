# SPDX-License-Identifier: LGPL-2.1-or-later
"""The examples of calls do what they say, and each program understands its twin in the shell."""

import os
import subprocess

import pytest

from messaging import BINDIR, BUILDDIR, EXIT_ANSWERED, SOURCES, eventually

PYTHON = os.environ.get("XENMSG_PYTHONDIR", "")


def example(name, language):
    if language == "shell":
        return ["env", f"PATH={BINDIR}:{os.environ['PATH']}", "sh", os.path.join(SOURCES, "examples", name + ".sh")]
    if language == "python":
        if not os.path.exists(os.path.join(PYTHON, "xenmsg", "_core.so")):
            pytest.skip("built without the Python module")
        return ["env", f"PYTHONPATH={PYTHON}", os.path.join(SOURCES, "examples", name + ".py")]
    program = os.path.join(BUILDDIR, "examples", name)
    if not os.access(program, os.X_OK):
        pytest.fail(f"{program} is not there: make check builds it")
    return [program]


def serve(node, endpoint, *command):
    node.popen_command(*command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, binds=endpoint)


LANGUAGES = pytest.mark.parametrize("server, client", [("c", "c"), ("c", "shell"), ("shell", "c"), ("shell", "shell")])


@pytest.mark.parametrize("server, client", [*LANGUAGES.args[1], ("python", "c"), ("c", "python"), ("python", "shell")])
def test_request_and_reply(one, two, server, client):
    serve(two, "turn", *example("request-reply", server), "serve", "turn")
    done = one.run_command(*example("request-reply", client), "call", "2:turn", "stressed")
    assert (done.returncode, done.stdout.strip()) == (0, b"desserts"), done.stderr
    if server == "python":
        done = one.run_command(*example("request-reply", client), "call", "2:turn", "grün")
        assert done.stdout.strip().decode() == "nürg"
        refused = one.xenmsg("call", "2:turn", "--file", "/bin/true")
        assert refused.returncode == EXIT_ANSWERED and b"that is no text" in refused.stderr, refused
    done = one.run_command(*example("request-reply", client), "call", "2:nothing", "x")
    assert done.returncode != 0 and done.stderr


@LANGUAGES
def test_keys_and_values(one, two, tmp_path, server, client):
    serve(two, "kv", *example("kv", server), "serve", "kv", *([tmp_path] if server == "shell" else []))

    def kv(node, *words):
        done = node.run_command(*example("kv", client), "2:kv", *words)
        return done.stdout if done.returncode == 0 else None
    assert kv(one, "list") == b""
    assert kv(one, "get", "colour") is None
    assert kv(one, "set", "colour", "light blue ") == b""
    assert kv(one, "set", "size", "3") == b""
    assert kv(one, "get", "colour") == b"light blue \n"
    assert kv(one, "set", "colour", "red") == b""
    assert kv(one, "get", "colour") == b"red\n"
    assert sorted(kv(one, "list").split()) == [b"colour", b"size"]
    assert kv(two, "get", "colour") is None
    assert kv(two, "list") == b""
    assert kv(one, "delete", "colour") == b""
    assert kv(one, "delete", "colour") is None
    assert kv(one, "get", "colour") is None
    assert kv(one, "steal", "size") is None
    assert kv(one, "get", "") is None
    assert kv(one, "get", "size") == b"3\n"


def test_a_domain_that_is_another_one_finds_no_old_keys(one, two):
    serve(two, "kv", *example("kv", "c"), "serve", "kv")

    def kv(*words):
        done = one.run_command(*example("kv", "c"), "2:kv", *words)
        return done.returncode, done.stdout
    assert kv("set", "secret", "42") == (0, b"")
    assert kv("get", "secret") == (0, b"42\n")
    one.stop()
    eventually(lambda: all(domid != 1 for domid, _ in two.peers_by_number()), "domain 1 has gone")
    one.start()
    one.sees(two)
    assert kv("list") == (0, b"")
    assert kv("set", "large", "x" * 70000)[0] == 1 and kv("list") == (0, b"")
