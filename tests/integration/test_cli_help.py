# SPDX-License-Identifier: LGPL-2.1-or-later
"""The help of each command fits a terminal, and what it shows as examples is right usage."""

import re
import shutil
import subprocess

import pytest

from messaging import EXIT_NO_DAEMON, EXIT_OK, EXIT_USAGE, tool

GROUPS = ["Messages", "Topics", "Calls", "Streams", "Commands", "See", "Mend", "Policy", "Export"]
COMMANDS = ["send", "recv", "publish", "subscribe", "call", "serve", "connect", "listen", "forward", "run", "vchan", "peers", "endpoints",
            "hosts", "watch", "trace", "status", "top", "doctor", "ping", "bench", "daemon", "policy", "exporter"]
SERVE_ALONE = {"forward", "exporter", "top"}  # they go on without a daemon, or need a terminal
POLICY = ["policy check", "policy test", "policy show", "policy denied", "policy reload"]


def said(*words, code=EXIT_OK):
    done = subprocess.run([tool("xenmsg"), *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code and "" in (done.stdout, done.stderr), done
    return done.stdout if code == EXIT_OK else done.stderr


def test_the_commands_are_grouped_and_all_there():
    listed = said("--help").partition("Commands (")[2].partition("\n\n")[0].split("\n", 1)[1]
    assert re.findall(r"^(\w+):$", listed, re.MULTILINE) == GROUPS
    assert re.findall(r"^  (\w+) ", listed, re.MULTILINE) == COMMANDS
    assert listed.index("Streams:") < listed.index("  listen") < listed.index("Commands:") < listed.index("  run")
    assert max(map(len, said("--help").splitlines())) <= 80
    assert said("help") == said("--help")


def test_help_fits_80_columns_and_ends_with_examples(tmp_path):
    for name in ("README.md", "question.json"):
        (tmp_path / name).write_text("x")
    for command in COMMANDS + POLICY:
        text = said("help", *command.split())
        assert said(*command.split(), "--help") == said(*command.split(), "-h") == text
        assert said(*command.split(), "--version").startswith("xenmsg "), command
        assert text.startswith(f"Usage: xenmsg {command}") and max(map(len, text.splitlines())) <= 80
        options, _, shown = text.partition("\nExamples:\n")
        examples = shown.splitlines()
        assert 2 <= len(examples) <= 3 and all(f"  {line}".count(f"xenmsg {command}") == 1 for line in examples), text
        assert options.endswith("--version: as for every command\n"), text
        for line in [] if command in SERVE_ALONE else examples:
            # Whatever it does then, it is understood: there is no daemon.
            line = line.replace("xenmsg ", f"{tool('xenmsg')} --socket {tmp_path}/none ", 1)
            done = subprocess.run(["sh", "-c", line], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                                  timeout=60, env={"PATH": "/usr/bin:/bin", "TERM": "dumb"})
            assert done.returncode in (EXIT_NO_DAEMON, 255, 1) and "--help" not in done.stderr, (line, done)


@pytest.mark.parametrize("words", [["help", "send", "recv"], ["help", "policy", "chek"], ["help", "policy", "check", "show"],
                                   ["policy", "chek", "--help"], ["help", "nothing"], ["help", "policy", ""]])
def test_help_about_what_is_not_there_is_wrong_usage(words):
    text = said(*words, code=EXIT_USAGE)
    assert text.count("\n") == 1
    assert "did you mean 'check'?" in text or "chek" not in words


def test_a_short_command_has_no_library_of_long_ones(tmp_path):
    linked = subprocess.run(["ldd", tool("xenmsg")], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert not re.search("nettle|curses|tinfo|libxen|event_extra", linked), linked
    # The program that has these commands gets all words, as they were typed, and has their exit status.
    shutil.copy(tool("xenmsg"), tmp_path)
    (tmp_path / "xenmsg-more").write_text('#!/bin/sh\nprintf "<%s>" "$@"\nexit 7\n')
    (tmp_path / "xenmsg-more").chmod(0o755)
    for words in (["-q", "top", "--once", ""], ["--socket", "no where", "doctor", "2:a b"], ["help", "exporter"]):
        done = subprocess.run([tmp_path / "xenmsg", *words], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (7, "".join(f"<{word}>" for word in words))
