# SPDX-License-Identifier: LGPL-2.1-or-later
"""shown_examples.md has what the examples of each command's help, and so of its manual page, print at a terminal."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile

import pytest

from messaging import BINDIR, FAST, Node, eventually, open_to_others, tool
from test_cli_help import COMMANDS, POLICY, said
from test_cli_terminal import Terminal
from test_first_hour import as_user, is_still_so, plain
from test_printed import blocks

RULES = "[rule]\nfrom = *\nto = *\naction = allow\n[bind]\nname = *\nuid = 1000\naction = allow\n"
# What the others need to have somebody to talk to.
BESIDES = {"xenmsg listen chat -- cat": "chat", "xenmsg listen --run build -- echo built": "build", "xenmsg recv print": "print"}
SERVE = {"xenmsg recv inbox": "inbox", "xenmsg recv --exec 'logger -t xenmsg' --confirm log": "log",
         "xenmsg serve clock -- date": "clock", "xenmsg serve --shared sort -- sort": "sort",
         "xenmsg serve --jobs 4 upper -- tr a-z A-Z": "upper",
         "xenmsg listen backup </dev/null >backup.tar": "backup", "xenmsg listen shout -- tr a-z A-Z": "shout",
         "xenmsg listen --run --args words -- wc -w --": "words"}
WATCH = {"xenmsg watch": "5:words", "xenmsg watch '*:print'": "5:print"}
TYPED = {"xenmsg connect work:chat": b"hello\n\x04"}
# In domain 0, for subscribers there.
NEWS = "xenmsg publish --stay 1h news 'shutdown at 18:00'"
# What goes on until it is stopped, each with what it shows before that.
STOPPED = {"xenmsg publish news 'shutdown at 18:00'": b"bound",
           "xenmsg publish --file config --stay 1h config": b"bound",
           "xenmsg subscribe 0:news": b"18:00"}
SUBSCRIBED = "xenmsg subscribe --json 0:news work:state"
# They measure for a minute, renew the daemon, take ports of the machine, draw, are for domain 0, or print a line of many kilobytes.
LEFT_OUT = {"bench", "daemon", "forward", "exporter", "top", "trace", "vchan"}
LEFT_OUT_LINES = {"xenmsg status --json --all", "xenmsg status --json", "date | xenmsg publish --lines --stay 1h clock"}
HEAD = """# What the examples show

Here are the lines of the README and the examples with which `man xenmsg-COMMAND` and `xenmsg help COMMAND`
end. They are typed by an ordinary user in domain 3, those that serve in domain 5, whose name is work, and
those about policy by root there. Domain 0 tells the names, no other host is there, and policy allows all. A
test types them again and compares all but numbers and days (`XENMSG_UPDATE=1` in its environment writes this
page anew). What stands below a command that serves is what it has shown until it was ended. In domain 5
run, besides:
```
{besides}
```
and in domain 0: `{news}`. What would go on is stopped, and what
goes on about several is shown in one order. The examples of
{left_out} are left out, which
measure, listen on ports, draw, renew the daemon or are for domain 0, and so are `status --json`, which prints
a long line, and the clock, which goes on behind a pipe.
"""


def without_days(text):
    return re.sub(r"\b(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w+ 0 0:0:0( [AP]M)? [A-Z]+ 0", "DAY", plain(text))


def in_terminal(node, line, directory, is_root=False):
    """Types a line into a shell."""
    words = ["env", f"PATH={directory}:{os.path.dirname(tool('xenmsg'))}:{os.environ['PATH']}", "LC_ALL=C.UTF-8", "sh", "-c",
             f"cd {directory}; {'exec ' if '|' not in line else ''}{line}"]
    return Terminal(node, command=node.command(*words) if is_root else as_user(node, *words), columns=110)


def examples_of(command):
    return [line.strip() for line in said("help", *command.split()).partition("\nExamples:\n")[2].splitlines()]


@pytest.fixture(name="scene")
def the_scene(make_host, tmp_path):
    host = make_host(5)
    host.sim("rename", 5, "work")
    home = pathlib.Path(tempfile.mkdtemp())  # pytest's own are root's
    folder, served = home / "typed", home / "served"  # or tar would read the file that it is written to
    for each in home, folder, served:
        each.mkdir(exist_ok=True)
        os.chmod(each, 0o777)
    (folder / "README.md").write_text("three words here\n")
    (folder / "names.txt").write_text("pear\nfig\napple\n")
    (folder / "expected.txt").write_text("work print allow\n0 print allow  # domain 0 may, too\n")
    (folder / "new.d").mkdir()
    (folder / "new.d" / "10.conf").write_text("[rule]\nfrom = work\nto = print\naction = allow\n")
    (folder / "picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (folder / "question.json").write_text("{}\n")
    (served / "logger").write_text("#!/bin/sh\nexec cat >/dev/null\n")  # syslog isn't there on every machine
    os.chmod(served / "logger", 0o755)
    nodes = {domid: Node(host, domid, tmp_path, config=FAST, policy=RULES) for domid in (0, 3, 5)}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, home)
        for node in nodes.values():
            stack.callback(node.end)
            node.start()
            open_to_others(node)
        nodes[3].sees(nodes[5])
        eventually(lambda: nodes[3].xenmsg("ping", "work", "--count", "1").returncode == 0, "the name is known")
        eventually(lambda: all(nodes[3].link(domid)["rtt_us"] for domid in (0, 5)), "heartbeats have measured the links", 60)
        (folder / "config").write_text("interval = 5\n")
        os.chmod(folder / "config", 0o666)
        publisher = in_terminal(nodes[0], NEWS, folder, True)
        publisher.read(until=b"bound")
        yield nodes[3], nodes[5], folder
        ended(publisher)


def ended(terminal):
    if terminal.process.poll() is None:
        terminal.process.terminate()
    return terminal.end()


def watched(node, line, folder):
    """What a watch lists, in one order."""
    terminal = in_terminal(node, line, folder)
    terminal.read(until=WATCH[line].encode())
    return "".join(f"{each}\n" for each in sorted(ended(terminal).splitlines()))


def shown_by(node, line, folder, is_root):
    if line.endswith(">config"):  # a subscriber that comes first is told that it waits
        publisher = in_terminal(node, "xenmsg publish --stay 1h config 'interval = 5'", folder)
        publisher.read(until=b"bound")
    terminal = in_terminal(node, line, folder, is_root)
    if line in TYPED:
        os.write(terminal.master, TYPED[line])
    if "inbox >picture.png" in line:
        eventually(lambda: "inbox" in node.endpoints(), "it is bound")
        node.send("self:inbox", "a picture")
    try:
        if line == SUBSCRIBED:
            for seen in b'"text"', b'"waiting"':
                terminal.read(until=seen)
            # In one order: what comes from one address is in order.
            return "".join(sorted(ended(terminal).splitlines(True), key=lambda told: json.loads(told)["address"]))
        if line in STOPPED:
            terminal.read(until=STOPPED[line])
            return ended(terminal)
        return terminal.end()
    except AssertionError as error:
        raise AssertionError(f"{line}: {error}") from None
    finally:
        if line.endswith(">config"):
            ended(publisher)


def block_of(shown):
    """The lines, each with what it has shown."""
    return "```\n" + "".join(f"$ {line}\n{text}" + ("\n" if text and not text.endswith("\n") else "") for line, text in shown.items()) + "```\n"


def shown_of_readme(three, five, folder):
    """What the lines of the README show; those with "in domain 5" serve there, up to the end."""
    serving, shown = {}, {}
    for line, what in re.findall(r"^(xenmsg .*?) +# (.*)$", blocks("README.md", "## Use it")[0], re.M):
        shown[line] = ""
        if what.startswith("in domain 5"):
            serving[line] = in_terminal(five, line, folder.parent / "served")
            eventually(lambda name=line.split()[2]: name in five.endpoints() and name in [each["name"] for each in three.json("endpoints", "5")],
                       f"{line}: it is bound and seen")
        elif line in WATCH:
            watching = in_terminal(three, line, folder)
            watching.read(until=b"there yet")
            printer = in_terminal(five, "xenmsg recv print", folder)
            watching.read(until=b"up endpoint")
            ended(printer)
            watching.read(until=b"down endpoint")
            shown[line] = ended(watching)
        elif line not in LEFT_OUT_LINES:
            shown[line] = shown_by(three, line, folder, False)
    for line, terminal in serving.items():
        shown[line] = ended(terminal)
    eventually(lambda: not three.json("endpoints", "5"), "they are gone")
    return {line: text for line, text in shown.items() if line not in LEFT_OUT_LINES}


def page_of(three, five, folder):
    """The whole page, typed anew."""
    readme = shown_of_readme(three, five, folder)
    serving = {}
    names = SERVE | BESIDES
    for line in names:
        serving[line] = in_terminal(five, line, folder.parent / "served")
        eventually(lambda name=names[line]: name in five.endpoints(), f"{line}: it is bound")
    eventually(lambda: set(names.values()) <= {entry["name"] for entry in three.json("endpoints", "5")}, "domain 3 sees them")
    shown = {line: watched(three, line, folder) for line in WATCH}
    for command in [name for name in COMMANDS if name not in LEFT_OUT and name != "policy"] + POLICY:
        for line in examples_of(command):
            if line not in shown and line not in serving and line not in LEFT_OUT_LINES:
                shown[line] = shown_by(five if command in POLICY else three, line, folder, command in POLICY)
    shown |= {line: ended(terminal) for line, terminal in serving.items()}
    text = HEAD.format(besides="\n".join(BESIDES), news=NEWS,
                       left_out=", ".join(f"`{name}`" for name in sorted(LEFT_OUT)))
    text += "\n## README\n" + block_of(readme)
    for command in [name for name in COMMANDS if name not in LEFT_OUT and name != "policy"] + POLICY:
        text += f"\n## {command}\n" + block_of({line: shown[line] for line in examples_of(command) if line not in LEFT_OUT_LINES})
    for node in (three, five):
        text = text.replace(node.socket, "/run/xenmsg/xenmsg.sock")
    return text


@pytest.mark.skipif(not BINDIR or os.geteuid() != 0, reason="on what is installed, as several users")
def test_the_examples_show_what_the_page_says(scene):
    is_still_so("tests/integration/shown_examples.md", page_of(*scene), without_days)
