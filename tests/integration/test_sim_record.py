# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim record writes down what passes, and faults come at the call that a test names."""

import errno

from conftest import TIMEOUT, row, wait_for
from xen_ends import bound, take


def lines(path):
    """Without their times, which never go back."""
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert [float(row[0]) for row in rows] == sorted(float(row[0]) for row in rows)
    return [tuple(row[1:]) for row in rows if len(row) == 5]


def test_a_record_has_requests_answers_and_events(host, tmp_path):
    path = tmp_path / "record"
    host.sim("record", path)
    watch = host.spawn(2, "xenstore-watch", "-n", "2", "data/x")
    wait_for(lambda: host.domain(2)["xenstore"]["watches"] == 1, "the watch")
    host.run(0, "xenstore-write", "/local/domain/2/data/x", "a b")
    assert host.run(1, "xenstore-read", "/local/domain/2/data/x").returncode == 1
    watch.wait(timeout=2 * TIMEOUT)
    one = host.xen(1)
    ref = one.ok("share", 2, 1, 1)[1]
    host.xen(2).ok("map", 1, ref, 1, 1)
    one.ok("evtchn-open")
    port = one.ok("bind-unbound", 0, 2)
    host.sim("destroy", 3)
    host.sim("record", "off")
    host.run(1, "xenstore-write", "data/late", "1")
    seen = lines(path)
    assert ("d0", "WRITE", r"/local/domain/2/data/x a\x20b", "OK") in seen
    assert ("d1", "READ", "/local/domain/2/data/x", "EACCES") in seen
    assert any(row[:2] == ("d2", "WATCH") and row[2].startswith("data/x ") for row in seen)
    assert any(row[:2] == ("d2", "WATCH_EVENT") and row[2].startswith("data/x ") for row in seen)
    assert any(row[:3] == ("d1", "grant", "1 pages to d2, writable") and row[3].startswith(f"{ref} ") for row in seen)
    assert any(row[:3] == ("d2", "map", f"d1:{ref}, writable") for row in seen)
    assert ("d1", "bind-unbound", "for d2", f"port {port}") in seen
    assert "host\td3: destroyed\n" in path.read_text() and "data/late" not in path.read_text()


def test_two_runs_have_the_same_record(make_host, tmp_path):
    records = []
    for number in range(2):
        host = make_host()
        path = tmp_path / str(number)
        host.sim("record", path)
        host.run(1, "xenstore-write", "data/a", "1", "data/b", "2")
        host.run(2, "xenstore-ls", "/local")
        host.sim("record", "off")
        records.append(lines(path))
    assert records[0] == records[1] and len(records[0]) == 5


def test_a_record_that_cannot_be_written_harms_nobody(host):
    assert "No such file" in host.sim("record", "/nonexistent/file", check=False).stderr
    host.sim("record", "/dev/full")
    assert host.run(1, "xenstore-read", "domid").stdout == "1\n"
    assert host.run(2, "xenstore-read", "domid").stdout == "2\n"
    assert "No space left" in host.sim("record", "off", check=False).stderr


def test_calls_are_refused_after_those_that_are_to_succeed(host):
    one = host.xen(1)
    host.sim("fault", "refuse-grant", 1, "1@2")
    host.sim("fault", "refuse-bind", 1, "2@1")
    one.ok("share", 2, 1, 1)
    one.ok("share", 2, 1, 1)
    assert one.error("share", 2, 1, 1) == errno.ENOSPC
    one.ok("share", 2, 1, 1)
    one.ok("evtchn-open")
    one.ok("bind-unbound", 0, 2)
    assert [one.error("bind-unbound", 0, 2) for _ in range(2)] == 2 * [errno.ENOSPC]
    one.ok("bind-unbound", 0, 2)
    assert "N@AFTER" in host.sim("fault", "refuse-map", 1, "1@x", check=False).stderr


KINDS = [("READ", "xs-read domid", "EACCES"), ("WRITE", "xs-write data/a 1", "ENOSPC"), ("RM", "xs-rm data/b", "EROFS"),
         ("WATCH", "xs-watch data/a", "ENOMEM"), ("TRANSACTION_START", "xs-begin", None), ("grant", "share 2 1 1", None),
         ("map", "map 2 {ref} 1 1", "ENODEV"), ("copy", "copy 2 {ref} 0 8", None), ("evtchn-open", "evtchn-open", "EMFILE"),
         ("bind-unbound", "bind-unbound 0 2", "ENOSPC"), ("bind-interdomain", "bind-interdomain 0 2 {port}", None)]


def test_any_kind_of_call_fails_when_a_test_wants(host):
    two = host.xen(2)
    two.ok("evtchn-open")
    ref = two.ok("share", 1, 1, 1)[1]
    for kind, words, error in KINDS:
        with row(kind):
            one, port = host.xen(1), two.ok("bind-unbound", 0, 1)
            words = words.format(ref=ref, port=port)
            one.ok("evtchn-open")
            host.sim("fault", "refuse", 1, kind, "1@1", *([error] if error else []))
            host.sim("fault", "refuse", 2, kind)  # which is another domain's
            assert one.ask(words).startswith("ok")
            expected = getattr(errno, error or ("EIO" if kind.isupper() else "ENOMEM"))
            # What grant copy answers isn't an errno.
            assert one.ask(words) == (f"error {expected}" if kind != "copy" else "ok -1 0")
            if kind != "bind-interdomain":  # whose port is bound by now
                one = host.xen(1) if kind == "WATCH" else one  # as after a watch that the kernel refuses
                assert one.ask(words).startswith("ok")
            host.sim("fault", "refuse", 2, kind, "off")


def test_a_commit_that_is_refused_ends_its_transaction(host):
    one = host.xen(1)
    one.ok("xs-write", "data/t", "before")
    host.sim("fault", "refuse", 1, "TRANSACTION_END", "1", "ENOSPC")
    one.ok("xs-begin")
    one.ok("xs-write", "data/t", "after")
    assert one.error("xs-commit") == errno.ENOSPC
    assert host.run(1, "xenstore-read", "data/t").stdout == "before\n" and host.domain(1)["xenstore"]["transactions"] == 0


def test_a_connection_ends_at_the_request_that_a_test_names(host):
    one = host.xen(1)
    host.sim("fault", "refuse", 1, "WRITE", "1@1", "ECONNRESET")
    one.ok("xs-write", "data/a", "1")
    assert one.ask("xs-write", "data/a", "2").startswith("error")
    assert host.run(1, "xenstore-read", "data/a").stdout == "1\n"


def test_events_get_lost_after_those_that_are_to_come(host):
    one, two, port, other = bound(host)
    host.sim("fault", "lose-event", 2, "1@1")
    came = []
    for _ in range(3):
        one.ok("notify", 0, port)
        came.append(two.ok("poll", 0, 0) == 1)
        if came[-1]:
            take(two, other)
    assert came == [True, False, True]


def test_a_refusal_of_what_nobody_refuses_is_one_line(host):
    for words in (("x",), ("unmap",), ("WATCH_EVENT",), ("WRITE", "x"), ("WRITE", "1", "EPIPE"), ("map", "1", "EX"), ("WRITE", "1", "EIO", "x")):
        done = host.sim("fault", "refuse", 1, *words, check=False)
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done
    assert host.sim("fault", "refuse-map", 1, "1", "x", check=False).returncode == 2


def test_transactions_conflict_as_often_as_a_test_wants(host):
    one = host.xen(1)
    host.sim("fault", "conflict", 1, 2)
    for expected in (errno.EAGAIN, errno.EAGAIN, 0):
        one.ok("xs-begin")
        one.ok("xs-write", "data/t", expected)
        assert (one.error("xs-commit") if expected else one.ok("xs-commit")) == expected
    assert host.run(1, "xenstore-read", "data/t").stdout == "0\n"


def recorded(host, path, *commands):
    host.sim("record", path)
    for domid, *words in commands:
        host.run(domid, *words)
    host.sim("record", "off")
    return path


def test_two_records_are_compared(host, tmp_path):
    here, there = (1, "xenstore-write", "data/a", "1"), (2, "xenstore-write", "data/b", "2")
    one = recorded(host, tmp_path / "one", here, there)
    assert host.sim("compare", one, recorded(host, tmp_path / "same", here, there)).stdout == "each did the same\n"
    assert host.sim("compare", one, recorded(host, tmp_path / "turned", there, here)).stdout == "each did the same\n"
    done = host.sim("compare", one, recorded(host, tmp_path / "more", here, here, there), check=False)
    assert done.returncode == 1
    assert done.stdout == (f"d1 differs from here on:\n  {one} has no more\n"
                           f"  {tmp_path / 'more'}:2: d1\tWRITE\tdata/a 1\tOK\n")


def test_what_is_no_record_is_refused(host, tmp_path):
    path = tmp_path / "file"
    for content in ("x\n", "0.1\td1\n", "0.1\tx\ty\n", "\t\t\n", "0.1\td1\tREAD\tdomid\t1\n0.2"):
        path.write_text(content)
        done = host.sim("compare", path, path, check=False)
        assert done.returncode == 2 and "is none of a record" in done.stderr, content
    assert "No such file" in host.sim("compare", tmp_path / "none", tmp_path / "none", check=False).stderr


def test_no_byte_of_a_file_reaches_the_terminal_as_it_is(host, tmp_path):
    one, other = tmp_path / "one", tmp_path / "o\x1b[ther"
    one.write_bytes(b"0.1\td1\x1b[2J\tREAD\ta\tOK\n0.2\td2\tREAD\ta\tOK\n")
    other.write_bytes(b"0.1\td1\x1b[2J\tREAD\t\xff\x07\tOK\n0.2\td2\tREAD\ta\tOK\n")
    printed = host.sim("compare", one, other, check=False).stdout
    assert all(byte in "\n\t" or " " <= byte <= "~" for byte in printed) and r"d1\x1b[2J" in printed and r"\xff\x07" in printed
