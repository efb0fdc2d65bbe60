# SPDX-License-Identifier: LGPL-2.1-or-later
"""doc/first-hour.md shows what is typed in the first hour, and what the terminal shows then."""

import os
import re
import shlex
import shutil

import pytest

import test_top
from messaging import BINDIR, SOURCES, Node, eventually, open_to_others, tool
from test_cli_terminal import Terminal

PAGE = os.path.join(SOURCES, "doc", "first-hour.md")
POLICY = "[rule]\nfrom = 3\nto = inbox, upper\naction = allow\n"


def plain(text):
    """Without what differs each time: numbers, UUIDs, and how wide they make a column."""
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UUID", text)
    return re.sub(r"[ \t]+", " ", re.sub(r"\d+(\.\d+)?[kKMGT]?", "0", text)).replace(" \n", "\n")


def as_user(node, *words):
    """The command of an ordinary user in the domain."""
    return node.command("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *words)


def screen_of(node, directory, *words):
    """What a command that draws has on a screen of 80 columns, once it has looked twice."""
    screen = test_top.Terminal(directory, node, tool("xenmsg"), *words, rows=20)
    try:
        screen.shows("XenStore ok", "inbox", "ACCOUNT", "q quit")
        return "\n".join(line.rstrip() for line in screen.screen()) + "\n"
    finally:
        screen.close()


def typed(node, line, is_root, directory):
    """What the terminal shows, on lines of its own."""
    words = shlex.split(line)[2:]
    if words == ["top"]:
        return f"{line}\n{screen_of(node, directory, *words)}"
    command = node.command(tool("xenmsg"), *words) if is_root else as_user(node, tool("xenmsg"), *words)
    text = Terminal(node, command=command, columns=110).end()
    return f"{line}\n{text}" + ("\n" if text and not text.endswith("\n") else "")


def typed_again(page, nodes, directory):
    """The page with what is shown now."""
    def shown(match):
        node, block = nodes[int(match[1])], match[3]
        lines = [line for line in block.splitlines() if line.startswith("$ ")]
        texts = "".join(typed(node, line, match[2], directory) for line in lines).replace(node.socket, "/run/xenmsg/xenmsg.sock")
        return f"In domain {match[1]}{match[2] or ''}:\n```\n{texts}```\n"
    return re.sub(r"^In domain (\d)(, as root)?:\n```\n(.*?)^```\n", shown, page, flags=re.M | re.S)


@pytest.mark.skipif(not BINDIR or os.geteuid() != 0 or not shutil.which("tmux"), reason="on what is installed, as several users, with tmux")
def test_the_first_hour_is_as_the_page_shows_it(make_host, tmp_path):
    host = make_host(5)
    three, five = (Node(host, domid, tmp_path, policy=policy) for domid, policy in ((3, None), (5, POLICY)))
    try:
        look_at_the_page(three.start(), five.start(), tmp_path)
    finally:
        for node in (three, five):
            node.end()


def look_at_the_page(three, five, tmp_path):
    for node in (three, five):
        open_to_others(node)
    five.receiver("inbox")
    five.popen("serve", "upper", "--", "tr", "a-z", "A-Z")
    five.popen("listen", "sort", "--", "sort")
    three.sees(five)
    listed = lambda: {(entry["name"], entry["kind"]) for entry in three.json("endpoints", "5")}
    eventually(lambda: listed() == {("inbox", "message"), ("upper", "call")}, "domain 3 sees what it may reach")
    eventually(lambda: "sort" in five.endpoints(), "it is bound, too")
    eventually(lambda: three.xenmsg("ping", "5", "--count", "1").returncode == 0, "the link is there")
    with open(PAGE, encoding="utf-8") as file:
        page = file.read()
    again = typed_again(page, {3: three, 5: five}, tmp_path)
    if os.environ.get("XENMSG_UPDATE"):
        with open(PAGE, "w", encoding="utf-8") as file:
            file.write(again)
        return
    assert plain(again).splitlines() == plain(page).splitlines()
