# SPDX-License-Identifier: LGPL-2.1-or-later
"""doc/first-hour.md shows what is typed in the first hour, and what the terminal shows then."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess

import pytest

import test_top
from messaging import BINDIR, EXIT_DENIED, PATIENCE, SOURCES, Node, eventually, open_to_others, read_source, tool
from test_cli_terminal import Terminal
from test_printed import IN_PATH

POLICY = "[rule]\nfrom = 3\nto = inbox, upper\naction = allow\n"


def plain(text):
    """Without what differs each time: numbers, UUIDs, and how wide they make a column; and so where a narrow line or table is cut."""
    text = re.sub(r"(, in \d+ columns:\n```\n)(.*?)^```\n", lambda match: match[1] + "\n".join(sorted(set(without_numbers(match[2]).split()))),
                  text, flags=re.M | re.S)
    return without_numbers(text)


def without_numbers(text):
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID", text)
    return re.sub(r"[ \t]+", " ", re.sub(r"\d+(\.\d+)?[kKMGT]?", "0", text)).replace(" \n", "\n")


def is_still_so(page, again, plainly):
    """Compares a page with what is shown again, or writes it anew if that is asked for."""
    if os.environ.get("XENMSG_UPDATE"):
        pathlib.Path(SOURCES, page).write_text(again, encoding="utf-8")
    else:
        assert plainly(again).splitlines() == plainly(read_source(page)).splitlines()


def as_user(node, *words):
    """The command of an ordinary user in the domain."""
    return node.command("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *words)


def screen_of(node, directory, *words, columns):
    """What a command that draws has on a screen, once it has looked twice."""
    screen = test_top.Terminal(directory, node, "env", "LC_ALL=C", tool("xenmsg"), *words, rows=20, columns=columns)
    try:
        screen.shows("XenStore ok", "ACCOUNT", "q quit")
        return "\n".join(line.rstrip() for line in screen.screen()) + "\n"
    finally:
        screen.close()


def typed(node, line, is_root, columns, directory):
    """What the terminal shows, on lines of its own."""
    words = ["env", "LC_ALL=C", tool("xenmsg"), *shlex.split(line)[2:]]
    if words[3:] == ["top"]:
        return f"{line}\n{screen_of(node, directory, *words[3:], columns=columns)}"
    terminal = Terminal(node, command=node.command(*words) if is_root else as_user(node, *words), columns=columns)
    if words[3] == "trace":
        terminal.read(until=b"ends it")
        assert node.xenmsg("call", "5:upper", "hello").returncode == 0
    text = re.sub(r"[^\n]*\r\x1b\[K", "", terminal.end())  # what says how far it is
    assert columns > 80 or all(len(each) <= columns for each in text.splitlines() if " " in each.strip() and not each.startswith("xenmsg: ")), text
    return f"{line}\n{text}" + ("\n" if text and not text.endswith("\n") else "")


def typed_again(page, nodes, directory):
    """The page with what is shown now."""
    def shown(match):
        node, columns, block = nodes[int(match[1])], int(match[3] or 110), match[4]
        lines = [line for line in block.splitlines() if line.startswith("$ ")]
        texts = "".join(typed(node, line, match[2], columns, directory) for line in lines).replace(node.socket, "/run/xenmsg/xenmsg.sock")
        narrow = f", in {match[3]} columns" if match[3] else ""
        return f"In domain {match[1]}{match[2] or ''}{narrow}:\n```\n{texts}```\n"
    return re.sub(r"^In domain (\d)(, as root)?(?:, in (\d+) columns)?:\n```\n(.*?)^```\n", shown, page, flags=re.M | re.S)


@pytest.mark.skipif(not BINDIR, reason="on what is installed")
def test_the_first_hour_begins_with_what_can_be_typed(tmp_path):
    """In place of the pause that a person makes it is waited for what it is there for."""
    block = re.search(r"^```sh\n(.*?)^```", read_source("doc", "first-hour.md"), re.M | re.S)[1]
    assert block.count("sleep 1 ") == 1
    script = f"""
        waits() {{ until "$@" >/dev/null 2>&1; do command sleep 0.05; done; }}
        sleep() {{ waits xensim exec 3 -- xenmsg ping --count 1 5; }}
        set -e
        {block}
        waits xensim exec 5 -- sh -c 'xenmsg endpoints self | grep -w sort'
        waits xensim exec 3 -- sh -c 'xenmsg endpoints 5 | grep -w upper'
        xensim exec 3 -- xenmsg call 5:upper "hello"
        xensim stop"""
    environment = dict(os.environ, **IN_PATH, XDG_RUNTIME_DIR=str(tmp_path))
    environment.pop("XENSIM_DIR", None)
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
    assert done.returncode == 0 and "HELLO" in done.stdout, done


@pytest.mark.skipif(not BINDIR or os.geteuid() != 0 or not shutil.which("tmux"), reason="on what is installed, as several users, with tmux")
def test_the_first_hour_is_as_the_page_shows_it(make_host, tmp_path):
    host = make_host(5)
    three, five = (Node(host, domid, tmp_path, policy=policy) for domid, policy in ((3, None), (5, POLICY)))
    try:
        look_at_the_page(three.start(), five.start(), tmp_path)
    finally:
        for node in (three, five):
            node.end()


@pytest.mark.skipif(not BINDIR or os.geteuid() != 0 or not shutil.which("tmux"), reason="on what is installed, as several users, with tmux")
def test_the_picture_of_top_has_what_top_shows_of_a_busy_host(make_host, tmp_path):
    """The same titles; the rest is of when it was recorded."""
    host = make_host(1)
    domids = [int(host.sim("create", "--name", name).stdout) for name in ("web", "db", "office")]
    web, database, office = (Node(host, domid, tmp_path, policy=policy) for domid, policy in
                             zip(domids, (None, None, "[rule]\nfrom = *\nto = orders, convert, prices\naction = allow\n")))
    nodes = [Node(host, 0, tmp_path), web, database, office]
    started = []
    try:
        for node in nodes:
            node.start()
        started += [office.popen("recv", "orders"), office.popen("serve", "--jobs", "4", "convert", "--", "cat")]
        eventually(lambda: {"web", "db"} <= {peer["name"] for peer in office.json("peers")}, "domain 0 has told the names")
        office_is = lambda node: node.command("env", f"OFFICE={office.domid}", f"XENMSG={tool('xenmsg')}", "sh", "-c", BUSY[node is web, node is office])
        started += [subprocess.Popen(office_is(node), env=node.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
                    for node in (office, web, database)]
        assert web.xenmsg("send", f"{office.domid}:payroll", "hello").returncode == EXIT_DENIED
        screen = test_top.Terminal(tmp_path, office, "env", "LC_ALL=C", tool("xenmsg"), "top", rows=26)
        try:
            busy = lambda: all(float(line.split()[7].rstrip("k")) > 1 for line in screen.screen() if line.split()[1:2] in (["web"], ["db"]))
            screen.shows("web", "db", "orders", "prices", "denied 1")
            eventually(busy, "both send")
            lines = screen.screen()
        finally:
            screen.close()
    finally:
        for process in started[2:]:  # each with what it has started
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for node in nodes:
            node.end()
    path, titles = pathlib.Path(SOURCES, "doc/terminal-top.txt"), re.compile(r"^(?:LINK|ENDPOINT|PID|TOPIC|ACCOUNT) .*$", re.M)
    if os.environ.get("XENMSG_UPDATE"):
        path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
    assert [" ".join(line.split()) for line in titles.findall("\n".join(lines))] == [" ".join(line.split()) for line in titles.findall(path.read_text())]


BUSY = {  # whether it is of the first one, and of the last one
    (True, False): 'while :; do echo "an order from the web, of some length"; sleep 0.02; done | "$XENMSG" send --lines $OFFICE:orders',
    (False, False): '"$XENMSG" subscribe $OFFICE:prices & while :; do echo "what this costs" | "$XENMSG" call $OFFICE:convert; sleep 0.1; done',
    (False, True): 'while :; do echo "a price, and when it was made"; sleep 0.05; done | "$XENMSG" publish --lines prices',
}


def look_at_the_page(three, five, tmp_path):
    for node in (three, five):
        open_to_others(node)
    five.receiver("inbox")
    five.popen("serve", "upper", "--", "tr", "a-z", "A-Z", binds="upper")  # one after the other: tables are by process
    five.popen("listen", "sort", "--", "sort", binds="sort")
    three.sees(five)
    listed = lambda: {(entry["name"], entry["kind"]) for entry in three.json("endpoints", "5")}
    eventually(lambda: listed() == {("inbox", "message"), ("upper", "call")}, "domain 3 sees what it may reach")
    eventually(lambda: three.xenmsg("ping", "5", "--count", "1").returncode == 0, "the link is there")
    eventually(lambda: three.link(5)["rtt_us"], "its heartbeat has measured it", 60)
    is_still_so("doc/first-hour.md", typed_again(read_source("doc", "first-hour.md"), {3: three, 5: five}, tmp_path), plain)
