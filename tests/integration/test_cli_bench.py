# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xenmsg bench` measures what it says, against `xenmsg bench --serve`, and says what is missing."""

import contextlib
import os
import signal
import subprocess

import pytest

from messaging import EXIT_DENIED, EXIT_NO_ENDPOINT, EXIT_UNREACHABLE, EXIT_USAGE, FAST, PATIENCE, eventually, tool
from test_cli_json import printed, validator  # noqa: F401  pylint: disable=unused-import

SIZES = [("ping", 0), ("call", 64), ("64-calls", 64), ("messages", 64), ("messages", 1024), ("messages", 65536),
         ("messages", 1 << 20), ("stream-trip", 64), ("stream", 65536)]
BRIEFLY = ("--seconds", "0.02")


def serve(node, *endpoint):
    name = endpoint[0] if endpoint else "bench"
    return node.popen("bench", "--serve", *endpoint, binds=(name, f"{name}-stream"))


def stop(server):
    server.terminate()
    assert server.wait(timeout=30 * PATIENCE) == -signal.SIGTERM


def test_each_measurement_has_what_the_schema_says(one, two, valid):
    server = serve(two)
    rows = valid("bench", printed(one, "bench", "2", *BRIEFLY))
    assert [(row["measurement"], row["size"]) for row in rows] == SIZES
    for row in rows:
        trips = row["measurement"] not in ("messages", "stream")
        assert (row["p50_us"] is not None) is trips
        assert not trips or 0 < row["p50_us"] <= row["p99_us"] <= row["p999_us"]
        # printed to a tenth, and of a whole number of messages
        assert row["mb_per_second"] == pytest.approx(row["per_second"] * row["size"] / 1e6, rel=0.01, abs=0.1 + row["size"] / 1e6)
    # all of it was handed over, not only sent
    taken = one.link(2)["tx"]["messages"]
    assert taken >= sum(row["count"] for row in rows if row["measurement"] in ("call", "64-calls", "messages"))
    stop(server)


def test_the_table_has_a_line_for_each_also_in_a_file(one):
    serve(one, "speed")
    done = one.xenmsg("bench", "self:speed", *BRIEFLY)
    assert done.returncode == 0 and done.stderr == b""
    heading, *lines = done.stdout.decode().splitlines()
    assert heading.split() == ["MEASUREMENT", "SIZE", "PER_SECOND", "MB_PER_SECOND", "P50_US", "P99_US", "P999_US"]
    assert [(line.split()[0], int(line.split()[1])) for line in lines] == SIZES


def test_progress_is_told_on_a_terminal_only_and_erased(one):
    serve(one)
    terminal, end = os.openpty()
    process = one.popen_command(tool("xenmsg"), "bench", "self", *BRIEFLY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # at its end a terminal gives EIO
        while piece := os.read(terminal, 4096):
            shown += piece
    table = process.communicate(timeout=60)[0]
    os.close(terminal)
    assert process.returncode == 0 and len(table.splitlines()) == len(SIZES) + 1
    assert b"stream-trip, 64 bytes" in shown and shown.endswith(b"\r\x1b[K") and b"\n" not in shown


def test_what_is_larger_than_is_accepted_is_left_out_with_a_word(nodes):
    one = nodes(1, config=FAST + "[limits]\nmax-message = 64K\n")[1]
    serve(one)
    done = one.xenmsg("bench", "self", "--json", *BRIEFLY)
    assert done.returncode == 0 and done.stderr.startswith(b"xenmsg: bench: messages of 1048576 bytes are left out")
    assert len(done.stdout.splitlines()) == len(SIZES) - 1


@pytest.mark.parametrize("policy, code, words", [
    ("[rule]\nfrom = *\nto = *\naction = allow\n", EXIT_NO_ENDPOINT, b"run 'xenmsg bench --serve' in that domain"),
    ("", EXIT_DENIED, b"denied by policy")])
def test_what_is_missing_is_told_in_one_line(nodes, one, policy, code, words):
    nodes(2, policy=policy)
    done = one.xenmsg("bench", "2", *BRIEFLY)
    assert done.returncode == code and done.stdout == b""
    line, = done.stderr.splitlines()
    assert line.startswith(b"xenmsg: bench 2:bench: ") and words in line


def test_a_domain_that_is_not_there_and_words_that_say_nothing(one):
    assert one.xenmsg("bench", "77", *BRIEFLY).returncode == EXIT_UNREACHABLE
    for words in ([], ["1", "2"], ["1:a:b"], ["1", "--seconds", "0"], ["--serve", "x" * 60], ["--serve", "a:b"]):
        done = one.xenmsg("bench", *words)
        assert done.returncode == EXIT_USAGE and len(done.stderr.splitlines()) == 1, words


def test_another_program_at_the_streams_end_is_no_success(one, two):
    two.popen("serve", "bench", "--", "cat", binds="bench")
    two.popen("listen", "bench-stream", "--", "true", binds="bench-stream")
    done = one.xenmsg("bench", "2", *BRIEFLY)
    assert done.returncode not in (0, EXIT_USAGE) and len(done.stderr.splitlines()) == 1


def test_too_many_streams_at_once_break_and_the_rest_goes_on(one, two):
    server = serve(two)
    held = [one.popen("connect", "2:bench-stream", stdin=subprocess.PIPE) for _ in range(20)]
    for stream in held:
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            stream.stdin.write(b"e")
            stream.stdin.flush()
    eventually(lambda: sum(stream.poll() is not None for stream in held) >= 4, "those above 16 have ended")
    assert sum(stream.poll() is None for stream in held) <= 16
    assert one.xenmsg("call", "2:bench", "hello").stdout == b"hello"
    for stream in held:
        stream.kill()
    eventually(lambda: one.xenmsg("bench", "2", *BRIEFLY).returncode == 0, "there is room again")
    stop(server)
