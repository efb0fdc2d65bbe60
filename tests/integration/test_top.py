# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenmsg top in a real terminal of 80 x 24, by what it shows."""

import re
import shutil
import subprocess

import pytest

from messaging import EXIT_NO_DAEMON, EXIT_USAGE, LOST_SOON, deliver, eventually, tool
from protocol import cut_off
from test_cli_large import DOMAINS, ENDPOINTS, large_daemon  # the fixture `large`  # noqa: F401  pylint: disable=unused-import

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not there")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, directory, node, *command, columns=80, rows=24):
        self.socket = str(directory / "tmux")
        self.status = directory / "exit-status"
        words = " ".join(f"'{word}'" for word in node.command(*command))
        # COLUMNS is another terminal's: what draws here asks this one.
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows), "-e", "COLUMNS=132", "-e",
                  f"XENSIM_DIR={node.environment['XENSIM_DIR']}", "-s", "top", f"{words}; echo $? >{self.status}; cat",
                  env=dict(node.environment, TERM="xterm"))

    def tmux(self, *words, **options):
        return subprocess.run(["tmux", "-S", self.socket, *words], capture_output=True, text=True, check=True, **options)

    def screen(self):
        return self.tmux("capture-pane", "-p", "-t", "top").stdout.rstrip("\n").split("\n")

    def shows(self, *texts):
        """Waits until all of them are on the screen."""
        try:
            return eventually(lambda: all(text in "\n".join(self.screen()) for text in texts) and self.screen(), "the screen")
        except AssertionError:
            raise AssertionError(f"the screen shows {texts}: {self.screen()}") from None

    def press(self, *keys):
        self.tmux("send-keys", "-t", "top", *keys)

    def code(self):
        return int(eventually(lambda: self.status.exists() and self.status.read_text().strip(), "it ends"))

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True, check=False)


@pytest.fixture(name="terminal")
def terminals(tmp_path):
    opened = []

    def open_terminal(node, *command, **options):
        opened.append(Terminal(tmp_path, node, *command, **options))
        return opened[-1]
    yield open_terminal
    for each in opened:
        each.close()


@pytest.fixture(name="start_top")
def tops(terminal):
    """start_top(node): `xenmsg top` there, which is quit at the end of the test."""
    started = []

    def start(node, *options, **size):
        started.append(terminal(node, tool("xenmsg"), "top", *options, "--delay", "0.2", **size))
        return started[-1]
    yield start
    for top in started:
        top.press("q")
        assert top.code() == 0


@pytest.mark.unless(relayed="direct")
def test_links_endpoints_and_programs_are_on_one_screen(one, two, start_top):
    deliver(one, two)
    receiver = one.receiver("inbox")
    top = start_top(one)
    screen = top.shows("xenmsgd ", "domain 1", "XenStore ok", "LINK", "ENDPOINT", "inbox", "PROGRAM")
    assert len(screen) <= 24 and all(len(line) <= 80 for line in screen)
    link = next(line for line in screen if line.startswith("2 "))
    assert " up " in link and ("grants" in link or "maps" in link)
    assert any("inbox" in line and "message" in line for line in screen)
    assert any(line.startswith(str(receiver.process.pid)) and "xenmsg" in line for line in screen), screen


@pytest.mark.parametrize("columns", [80, 40, 10])
def test_many_lines_are_scrolled_as_fast_as_keys_come(alone, terminal, large, columns):
    top = terminal(alone, tool("xenmsg"), "top", "--socket", large.path, columns=columns)
    top.shows("LINK")
    top.press("-N", str((DOMAINS + ENDPOINTS) // 10), "NPage")
    last = f"endpoint-{ENDPOINTS - 1}"
    screen = top.shows(last[:columns])
    assert all(len(line) <= columns for line in screen)
    assert columns == 10 or any(line.split()[:1] == [last] for line in screen), screen
    top.press("q")
    assert top.code() == 0


def test_a_narrow_terminal_is_scrolled_sideways(one, two, start_top):
    deliver(one, two)
    one.receiver("inbox")
    top = start_top(one, columns=40)
    screen = top.shows("LINK   NAME           STATE     ROLE\n", "ENDPOINT", "inbox", "q quit  arrows scroll  / filter")
    assert all(len(line) <= 40 for line in screen) and re.fullmatch(r"XenStore ok  pages \d+/\d+", screen[1]), screen
    for _ in range(6):
        top.press("Right")
    screen = top.shows("LINK     RTT_US  SENT/s  RECV/s BYTES/s", "inbox")
    titles = next(line for line in screen if line.startswith("ENDPOINT")).split()
    assert set(titles) < {"ENDPOINT", "UID", "PID", "QUEUED", "STREAMS", "BYTES/s"}, "words are whole"
    assert all(len(line) <= 40 for line in screen) and screen[-1].startswith("q quit")
    assert len(next(line for line in screen if line.startswith("2  ")).split()) == 5  # the link's number, and its last columns
    for _ in range(6):
        top.press("Left")
    top.shows("LINK   NAME           STATE     ROLE")


@pytest.mark.parametrize("kind", ["dumb", "nonsense"])
def test_a_terminal_that_cannot_do_it_is_named(one, kind):
    done = subprocess.run(["script", "-qefc", f"env TERM={kind} {' '.join(one.command(tool('xenmsg'), 'top'))}", "/dev/null"],
                          env=one.environment, capture_output=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == EXIT_USAGE and f"a terminal of the kind '{kind}' can't" in done.stdout.decode().splitlines()[-1], done


@pytest.mark.unless(relayed="direct")
def test_a_link_that_is_away_says_since_when(nodes, host, start_top):
    one, two = nodes(1, 2, config=LOST_SOON).values()
    deliver(one, two)
    top = start_top(one)
    top.shows(" up ")
    host.sim("pause", 2)
    top.shows("away since ")
    screen = top.shows("away since ", f", resumes {one.link(2)['resumes']}, channels ")
    assert all(len(line) <= 80 for line in screen)
    host.sim("unpause", 2)
    top.shows(" up ")


def test_streams_and_programs_are_shown_with_what_they_carry(one, two, start_top):
    listener = two.popen("listen", "sink", "--", "sh", "-c", "exec cat >/dev/null", binds="sink")
    with open("/dev/zero", "rb") as endless:
        one.popen("connect", "2:sink", stdin=endless)
    eventually(lambda: one.status()["streams"] and two.status()["streams"], "the stream is there")
    (stream,), (other,) = one.status()["streams"], two.status()["streams"]
    assert stream["address"] == "2:sink" and stream["comm"] == "xenmsg-connect" and stream["state"] == "flowing"
    assert other["endpoint"] == "sink" and other["from"] == 1 and other["pid"] == listener.pid
    eventually(lambda: one.status()["streams"][0]["bytes_in"] > stream["bytes_in"], "it flows")
    top = start_top(one)
    screen = top.shows("STREAM_OF", "to 2:sink")
    assert len(screen) <= 24 and all(len(line) <= 80 for line in screen)

    def busy():
        rows = [line.split() for line in top.screen() if line.startswith(str(stream["pid"]))]
        return len(rows) == 2 and rows[0][4] == "1" and all(row[-2][-1] in "kMG" for row in rows)
    eventually(busy, f"both the program and its stream are busy: {top.screen()}")


def test_accounts_say_what_is_sent_for_them_and_who_was_cut_off(one, start_top):
    one.receiver("inbox")
    cut_off(one)
    rests = lambda: one.account("uid", 0)["time"]["rests"]  # on a slow machine it does
    before = rests()
    top = start_top(one, rows=40)
    screen = top.shows("cut off 1", "ACCOUNT", "RESTS", "\nuid 0 ")
    row, = (line.split() for line in screen if line.startswith("uid 0 "))
    assert before <= int(row[-2]) <= rests() and row[-1] == "1", "so often it rested, and was cut off once"
    assert all(len(line) <= 80 for line in screen)


def test_rows_are_sorted_and_filtered(one, start_top):
    for name in ("beta", "alpha", "gamma"):
        one.receiver(name)
    top = start_top(one)
    names = lambda: [line.split()[0] for line in top.screen() if line.split() and line.split()[0] in ("alpha", "beta", "gamma")]
    top.shows("gamma", "sort: traffic", "/ filter")
    top.press("s")
    top.shows("sort: queued")
    top.press("s")
    top.shows("sort: first column")
    eventually(lambda: names() == ["alpha", "beta", "gamma"], "they are sorted")
    top.press("/")
    top.press("A", "M", "x", "BSpace")
    top.shows("/AM_  enter: done")
    eventually(lambda: names() == ["gamma"], "others are hidden")
    top.press("Enter")
    top.shows("/ filter: AM")
    top.press("Escape")
    eventually(lambda: len(names()) == 3, "all are shown again")


def test_the_filter_finds_what_its_column_has_no_room_for(one, start_top):
    for name in ("a" * 50 + "-first", "a" * 50 + "-second"):
        one.receiver(name)
    top = start_top(one)
    rows = lambda: sum(line.startswith("aaaa") for line in top.screen())
    eventually(lambda: rows() == 2, "both are shown")
    top.press("/")
    top.press("-", "s", "e", "c", "Enter")
    top.shows("/ filter: -sec")
    eventually(lambda: rows() == 1, "the other one is hidden")


def test_a_long_list_scrolls_below_the_head(one, start_top):
    for i in range(4):
        one.receiver(f"endpoint-{i}")
    top = start_top(one, rows=10)
    top.shows("endpoint-1")
    assert not any("PROGRAM" in line for line in top.screen())
    top.press("PageDown")
    top.press("PageDown")
    screen = top.shows("ACCOUNT")
    assert screen[0].startswith("xenmsgd ")
    top.press("PageUp")
    top.press("PageUp")
    top.shows("endpoint-1", "LINK")
    top.press("Space")
    top.shows("PAUSED")


def test_a_daemon_that_goes_and_comes_is_shown(one, start_top):
    top = start_top(one)
    top.shows("XenStore ok")
    one.stop()
    top.shows("no answer from xenmsgd")
    one.start()
    top.shows("XenStore ok")


def test_it_ends_by_a_signal(one, terminal):
    top = terminal(one, tool("xenmsg"), "top")
    top.shows("XenStore ok")
    top.press("C-c")
    assert top.code() == 0
    assert one.alive()


def test_without_a_terminal_or_a_daemon_it_says_so(alone, terminal):
    done = alone.xenmsg("top")
    assert done.returncode == EXIT_USAGE and b"terminal" in done.stderr
    top = terminal(alone, tool("xenmsg"), "top")
    assert top.code() == EXIT_NO_DAEMON
    top.shows("xenmsg: ")
