# SPDX-License-Identifier: LGPL-2.1-or-later
"""bench/guard fails when something has come to cost more, and the table of what it expects is whole."""

import importlib.machinery
import importlib.util
import os
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


@pytest.mark.parametrize("name", ["trip.allocations", "trip.calls", "64B.instructions", "stream.notifications", "xenstore.start, alone"])
def test_what_exceeds_its_margin_is_too_much_and_named(guard, capsys, name):
    expected = guard.read_expected()
    part, more = guard.margin(name)
    most = expected[name] * (1 + part) + more
    assert guard.compare({name: most}, {}, expected) == 0
    assert guard.compare({name: most + 0.01}, {name: {"sender": most + 0.01}}, expected) == 1
    assert "COSTS MORE: sender" in capsys.readouterr().out


def test_what_nobody_expects_is_told(guard, capsys):
    assert guard.compare({"trip.calls": 1}, {}, {}) == 1
    assert "is new" in capsys.readouterr().out


def test_there_is_a_figure_for_each_that_is_counted(guard):
    expected = guard.read_expected()
    for workload in guard.WORKLOADS:
        assert {f"{workload}.{counter}" for counter in (*guard.COUNTERS, "instructions")} <= expected.keys()
    assert set(guard.WIDE) <= expected.keys()


def test_an_update_writes_what_is_read(guard, monkeypatch, tmp_path):
    monkeypatch.setattr(guard, "EXPECTED", str(tmp_path / "guard.expected"))
    guard.write_expected({"trip.calls": 2.5, "trip.instructions": 7})
    guard.write_expected({"trip.calls": 3})  # without valgrind
    assert guard.read_expected() == {"trip.calls": 3, "trip.instructions": 7}
