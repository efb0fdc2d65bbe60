# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim trace writes down what a program asks of Xen's libraries, with a host or without, and compare finds out whether two
have asked the same. tests/conformance/vchan.trace is what a vchan asks on real Xen: tests/xen/test_45_trace.sh holds that to it."""

import os
import pathlib
import subprocess

from conftest import TIMEOUT, program, wait_for

SOURCE = pathlib.Path(os.environ.get("XENMSG_SRCDIR", pathlib.Path(__file__).resolve().parents[2]))


def traced(path, *words):
    return (program("xensim"), "trace", str(path), "--", *words)


def vchan(host, server, client, tmp_path):
    """A vchan between two domains: what both ends ask."""
    files = [tmp_path / f"{server}-{end}" for end in ("server", "client")]
    first = host.spawn(server, *traced(files[0], program("check-vchan"), "server", str(client), "data/stock", "4096", "8192"),
                       stdin=-1, stdout=-1, text=True)
    first.stdin.write("text hello\nwait 60000\nclose\n")
    first.stdin.close()
    wait_for(lambda: host.run(server, "xenstore-exists", "data/stock/event-channel").returncode == 0, "the server")
    second = host.spawn(client, *traced(files[1], program("check-vchan"), "client", str(server), f"/local/domain/{server}/data/stock"),
                        stdin=-1, stdout=-1, text=True)
    assert "ok hello" in second.communicate("gettext 5\nclose\n", timeout=2 * TIMEOUT)[0]
    assert first.wait(timeout=2 * TIMEOUT) == 0
    path = tmp_path / str(server)
    path.write_text(files[0].read_text() + files[1].read_text())
    return path


def test_a_vchans_trace_is_that_of_real_xen(host, tmp_path):
    done = host.sim("compare", SOURCE / "tests/conformance/vchan.trace", vchan(host, 1, 2, tmp_path), check=False)
    assert done.returncode == 0, done.stdout


def test_other_numbers_are_alike_and_another_order_is_not(host, tmp_path):
    keeper = host.xen(2)
    keeper.ok("share", 1, 3, 1)
    keeper.ok("evtchn-open")
    for _ in range(5):
        keeper.ok("bind-unbound", 0, 1)
    here, there = vchan(host, 1, 2, tmp_path), vchan(host, 2, 3, tmp_path)
    assert host.sim("compare", here, there).returncode == 0
    lines = there.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if "ring-ref" in line)
    changes = {"another order": lines[:first] + [lines[first + 1], lines[first]] + lines[first + 2:],
               "the reference of another page": [line.replace("\tmap\td2:", "\tmap\td2:1") for line in lines],
               "another domain": [line.replace("for d3", "for d1") for line in lines],
               "an error": [line.replace("\tOK", "\tENOSPC") if "RM" in line else line for line in lines]}
    for what, changed in changes.items():
        there.write_text("".join(f"{line}\n" for line in changed))
        done = host.sim("compare", here, there, check=False)
        assert done.returncode == 1 and "differs from here on" in done.stdout, what


def test_a_trace_has_the_lines_of_a_record(host, tmp_path):
    script = ("xenstore-write data/a 'x y'; xenstore-read data/a data/none; xenstore-list data; xenstore-chmod data/a n1 r2; "
              "xenstore-rm data/a; xenstore-exists data/a")
    host.sim("record", tmp_path / "record")
    host.run(1, *traced(tmp_path / "trace", "/bin/sh", "-c", script))
    host.sim("record", "off")
    trace, record = ([line.split("\t", 1)[1] for line in (tmp_path / name).read_text().splitlines() if "\tDIRECTORY\t" not in line]
                     for name in ("trace", "record"))
    assert trace and [line for line in record if line in trace] == trace


def test_a_trace_that_cannot_be_written_is_one_line(tmp_path):
    for words, status in ((traced("/nonexistent/file", "true"), 125), (traced(tmp_path / "trace", "/nonexistent"), 127),
                          ((program("xensim"), "trace", tmp_path / "trace", "true"), 2)):
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == status and len(done.stderr.splitlines()) == 1, done


def test_without_a_host_the_program_is_what_it_was(tmp_path):
    for word, status in (("false", 1), ("true", 0)):
        done = subprocess.run(traced(tmp_path / "trace", word), env=dict(os.environ, XENSIM_DIR="/nonexistent"), check=False)
        assert done.returncode == status and (tmp_path / "trace").read_text() == "", word
