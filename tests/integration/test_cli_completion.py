# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the shells offer to complete: what there is to type, and who is there now. Each shell completes with its own script."""

import os
import re
import shutil
import subprocess

import pytest

from messaging import PATIENCE, SOURCES, eventually, tool

SCRIPTS = os.path.join(SOURCES, "cli/completion")
BASH = """PATH=$(dirname "$2"):$PATH; . "$1"; COMP_LINE=$3; COMP_POINT=${#3}; _xenmsg; printf '%s\\n' "${COMPREPLY[@]}" """
FISH = 'set -x PATH (dirname $argv[2]) $PATH; source $argv[1]; complete -C "$argv[3]"'
# zsh completes only at a terminal. What it is given to offer goes to a file, since it draws lists as it likes, and may ask before it
# draws a long one. Keys are for its line editor, so they are typed when that has begun.
# Only xenmsg gets the domain's libraries: with those of AddressSanitizer an interactive zsh may stand still.
# The first one leaves in a file what it found in a thousand others, which it reads byte by byte.
ZSH = r"""
found=$1; shift
zmodload zsh/zpty
export OFFERED=$(mktemp) TERM=dumb BIN=$(mktemp -d)
print -r -- "#!/bin/sh
LD_PRELOAD='$LD_PRELOAD' exec '$2' \"\$@\"" >$BIN/xenmsg
chmod +x $BIN/xenmsg
unset LD_PRELOAD
export PATH=$BIN:$PATH
print -r -- "fpath=(${(q)1} \$fpath); autoload -Uz compinit; compinit -C -d ${(q)found}; setopt noautolist; LISTMAX=9999
compadd() { local -a seen; builtin compadd -O seen \"\$@\"; print -rl -- \$seen >>\$OFFERED; builtin compadd \"\$@\"; }
offer() { zle complete-word; print -r -- END >>\$OFFERED; }; zle -N offer; bindkey '^I' offer
zle-line-init() { print -r -- END >>\$OFFERED; }; zle -N zle-line-init" >$OFFERED.rc
zpty shell zsh -f -i
zpty -w shell "source $OFFERED.rc"
wait_for() { until [[ $(grep -cx END $OFFERED) == $1 ]]; do zpty -r -t shell line; sleep 0.02; done }
wait_for 1
zpty -w -n shell "$3"$'\t'
wait_for 2
zpty -d shell
grep -vx -e END -e '' $OFFERED
rm -rf $OFFERED $OFFERED.rc $BIN
exit 0
"""


class Shell:
    def __init__(self, name, directory):
        self.name = name
        self.command = {"bash": ["bash", "-c", BASH, "bash", os.path.join(SCRIPTS, "bash/xenmsg")],
                        "zsh": ["zsh", "-f", "-c", ZSH, "zsh", str(directory / "zsh"), SCRIPTS],
                        "fish": ["fish", "--no-config", "-c", FISH, os.path.join(SCRIPTS, "xenmsg.fish")]}[name]

    def offers(self, node, line):
        done = node.run_command(*self.command, tool("xenmsg"), line)
        assert done.returncode == 0 and done.stderr == b"", done
        return {each.split("\t")[0] for each in done.stdout.decode().splitlines()} - {""}


@pytest.fixture(name="shell", params=["bash", "zsh", "fish"])
def a_shell(request, tmp_path_factory):
    if not shutil.which(request.param):
        pytest.skip(f"{request.param} is not there")
    return Shell(request.param, tmp_path_factory.getbasetemp())


def test_commands_and_options_are_what_the_help_says(one, shell):
    said = subprocess.run([tool("xenmsg"), "help"], capture_output=True, text=True, check=True).stdout
    commands = set(re.findall(r"^  ([a-z]+) +", said.partition("Commands")[2].partition("\n\n")[0], re.M))
    assert shell.offers(one, "xenmsg ") == commands | {"help"} and {"forward", "exporter"} <= commands
    assert shell.offers(one, "xenmsg se") == {"send", "serve"} == shell.offers(one, "xenmsg help se")
    assert shell.offers(one, "xenmsg --quiet --socket /nix se") == {"send", "serve"}
    assert shell.offers(one, "xenmsg --js") == {"--json"}
    for command in sorted(commands - {"policy"}) if shell.name == "bash" else ("recv", "forward", "exporter", "watch"):  # the quickest
        text = subprocess.run([tool("xenmsg"), "help", command], capture_output=True, text=True, check=True).stdout
        options = set(re.findall(r"^ +(?:-., )?(--[a-z][a-z-]*)", text.partition("\nExamples")[0], re.M))  # but those that it only names
        assert "--socket" in options, command
        assert shell.offers(one, f"xenmsg {command} --") == options | {"--quiet", "--verbose", "--help", "--version"}, command
    assert shell.offers(one, "xenmsg send --t") == {"--timeout", "--trace"}
    assert shell.offers(one, "xenmsg help policy c") == {"check"} == shell.offers(one, "xenmsg policy c")
    assert "--json" in shell.offers(one, "xenmsg policy check --")


def test_endpoints_are_offered_to_what_they_take(one, two, shell):
    two.receiver("inbox")
    one.popen("listen", "sort")
    one.receiver("log")
    listed = lambda: {entry["address"] for entry in one.json("endpoints")}
    eventually(lambda: listed() == {"1:sort", "1:log", "2:inbox"}, "all are there")
    stream, message = shell.offers(one, "xenmsg run "), shell.offers(one, "xenmsg send ")
    assert {"1:sort", "dom1:sort"} <= stream and "1:log" not in stream and stream == shell.offers(one, "xenmsg connect ")
    assert {"1:log", "2:inbox"} <= message and "1:sort" not in message
    assert not {"1:log", "2:inbox"} & (shell.offers(one, "xenmsg call ") | stream)  # its domain tells what it takes
    # bash puts in only what is behind the colon.
    assert shell.offers(one, "xenmsg send 2:i") == {"inbox" if shell.name == "bash" else "2:inbox"}
    assert shell.offers(one, "xenmsg forward ") == {"unix:", "tcp:", "xen:"}
    assert shell.offers(one, "xenmsg forward tcp:127.0.0.1:80 xen:1:s") == {"sort" if shell.name == "bash" else "xen:1:sort"}
    assert {"2", "self", "1:log", "2:inbox"} <= shell.offers(one, "xenmsg doctor ") & shell.offers(one, "xenmsg trace ")
    one.kill()
    assert shell.offers(one, "xenmsg send ") == set()


def test_domains_are_offered_where_they_go(one, two, shell):
    one.receiver("log")
    for line in ("ping", "bench", "endpoints", "watch", "policy check", "--json ping", "status --domain", "policy show --domain"):
        offered = shell.offers(one, f"xenmsg {line} ")
        assert {"2", "self"} <= offered and "log" not in offered, line
    assert shell.offers(one, "xenmsg policy check 2 ") == {"log"}
    for line in ("policy", "policy show", "policy denied", "policy check 2 log", "recv", "serve", "status", "exporter"):
        assert not {"2", "self"} & shell.offers(one, f"xenmsg {line} "), line
    assert {"check", "test", "matrix", "show", "denied", "reload"} == shell.offers(one, "xenmsg policy ")
    assert "unix:" in shell.offers(one, "xenmsg exporter --listen ")


def test_fields_of_lists_are_offered(alone, shell):
    assert shell.offers(alone, "xenmsg hosts -o ") == {"host", "state", "link", "rtt_us", "instance", "last_error"}
    assert shell.offers(alone, "xenmsg endpoints --fields address,ki") == {"address,kind"}
    assert shell.offers(alone, "xenmsg watch -o domid,name,d") == {"domid,name,domain"}  # none twice


def test_files_are_offered_where_they_go(nodes, shell, tmp_path):
    (tmp_path / "report.pdf").touch()
    offered = shell.offers(nodes(1)[1], f"xenmsg send --file {tmp_path}/re")
    assert "report.pdf" in map(os.path.basename, offered) and "self" not in offered


def test_other_hosts_are_offered(hosts, shell):
    here, _ = hosts()
    assert shell.offers(here, "xenmsg peers ") == {"hostb"} and "hostb/" in shell.offers(here, "xenmsg endpoints ho")
    assert {"hostb/", "self"} <= shell.offers(here, "xenmsg watch ")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not there")
def test_a_line_in_bash_is_completed_behind_the_colon(one):
    """In a terminal, with readline, which parts words at colons."""
    one.receiver("inbox")
    script = os.path.join(SCRIPTS, "bash/xenmsg")
    typed = f"PATH={os.path.dirname(tool('xenmsg'))}:$PATH; . {script}; PS1=\nxenmsg send 1:in\t'hello there'; exit\n"
    process = one.popen_command("script", "-qec", "bash --norc --noprofile -i", "/dev/null", stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    process.communicate(typed.encode(), timeout=60 * PATIENCE)
    eventually(lambda: one.status()["endpoints"][0]["messages"] == 1, "it was sent to 1:inbox")
