# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench/guard fails when something has come to cost more, and the table of what it expects is whole."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys

import pytest

from messaging import SOURCES

BENCH = os.path.join(SOURCES, "bench")


@pytest.fixture(name="guard")
def module(monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("guard", os.path.join(BENCH, "guard"))
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_loader("guard", loader))
    loader.exec_module(loaded)
    return loaded


@pytest.mark.parametrize("name", ["trip.allocations", "trip.calls of daemons", "64B.instructions of programs", "stream.switches", "xenstore.start, alone"])
def test_what_exceeds_its_margin_is_too_much_and_named(guard, capsys, name):
    expected = guard.read_expected()
    most = guard.most(name, expected[name][0])
    assert guard.compare({name: most}, {}, expected) == 0
    assert guard.compare({name: most + 0.01}, {name: {"sender": most + 0.01}}, expected) == 1
    assert "COSTS MORE: sender" in capsys.readouterr().out


def test_what_nobody_expects_is_told(guard, capsys):
    assert guard.compare({"trip.faults": 1}, {}, {}) == 1
    assert "is new" in capsys.readouterr().out


def test_there_is_a_figure_for_each_that_is_counted(guard):
    expected = guard.read_expected()
    for workload in guard.WORKLOADS:
        for counter in (*guard.OF_PROCESSES, *guard.OF_KERNEL, *guard.OF_VALGRIND):
            assert f"{workload}.{counter}" in expected
    for workload in guard.APART:
        for where in ("apart", "polled"):
            assert {f"{workload} {where}.{counter}" for counter in guard.OF_KERNEL} <= expected.keys()
    assert "memory.link" in expected and "xenstore.link, both ends" in expected


def test_no_figure_is_above_that_of_the_last_release(guard):
    assert guard.risen(guard.read_expected()) == []
    assert guard.risen({"trip.switches": [5, 4]}) == ["trip.switches"]


def test_an_update_writes_what_is_read(guard, monkeypatch, tmp_path):
    monkeypatch.setattr(guard, "EXPECTED", str(tmp_path / "guard.expected"))
    guard.write_expected({"trip.faults": 2.5, "trip.switches": 7})
    guard.write_expected({"trip.faults": 3})  # the other is missing here
    assert guard.read_expected() == {"trip.faults": [3, 2.5], "trip.switches": [7, 7]}
    guard.write_expected({"trip.faults": 3}, is_release=True)
    assert guard.read_expected()["trip.faults"] == [3, 3]


@pytest.fixture(name="kernel")
def module_of_the_kernel(guard):
    return sys.modules["kernel"]


@pytest.fixture(name="reader")
def program():
    """Reads a line, writes a byte, and so on."""
    with subprocess.Popen(["sh", "-c", "while read line; do echo $line; done"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True, bufsize=1) as process:
        yield process
        process.stdin.close()


@pytest.mark.parametrize("way", ["ByTracepoint", "ByStrace"])
def test_system_calls_are_counted_by_the_kernel_by_name(kernel, reader, way):
    try:
        counter = getattr(kernel, way)({"reader": reader.pid})
    except OSError as error:
        pytest.skip(f"not permitted here: {error}")
    counter.begin()
    for _ in range(5):
        reader.stdin.write("x\n")
        assert reader.stdout.readline() == "x\n"
    found = counter.end()["reader"]
    counter.close()
    assert found["write"] == 5 and 5 <= found["read"] <= 15


def test_what_cant_be_counted_is_said_to_be_missing(kernel, reader, monkeypatch):
    monkeypatch.setattr(kernel, "TRACEPOINT", "/nowhere")
    monkeypatch.setattr(kernel.shutil, "which", lambda name: None)
    with kernel.Kernel({"reader": reader.pid}) as counted:
        counted.begin()
        counts = counted.end()
    assert counts.calls is None and counts.switches["reader"] >= 0
    assert "system calls" in counted.missing[0]
