# SPDX-License-Identifier: LGPL-2.1-or-later
"""A failed stage of scripts/check begins with the names of the tests that failed, and with the first thing that was wrong in each."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from messaging import SOURCES

REPORTER = pathlib.Path(SOURCES) / "scripts/report-failures"


def report(*arguments):
    done = subprocess.run([sys.executable, REPORTER, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def unit_result(build, name, result, log):
    (build / f"tests/{name}").parent.mkdir(parents=True, exist_ok=True)
    (build / f"tests/{name}.trs").write_text(f":test-result: {result}\n:global-test-result: {result}\n")
    (build / f"tests/{name}.log").write_text(log)


def test_a_unit_test_is_named_with_its_assertion(tmp_path):
    unit_result(tmp_path, "test_good", "PASS", "[ RUN      ] fine\n[       OK ] fine\n")
    unit_result(tmp_path, "test_bad", "FAIL",
                "[ RUN      ] fine\n[       OK ] fine\n[ RUN      ] one_is_two\n[  ERROR   ] --- 0x1 != 0x2\n"
                "[   LINE   ] --- bad.c:110: error: Failure!\n[  FAILED  ] one_is_two\n[ RUN      ] fine_again\n[       OK ] fine_again\n"
                "[  FAILED  ] tests: 1 test(s), listed below:\n[  FAILED  ] one_is_two\n")
    assert report(f"unit:{tmp_path}") == (0, ["tests/test_bad: one_is_two", "    0x1 != 0x2", "    bad.c:110: error: Failure!"])
    assert report(f"cmocka:{tmp_path}/tests/test_bad.log") == (0, ["one_is_two", "    0x1 != 0x2", "    bad.c:110: error: Failure!"])


def test_what_runs_a_failed_test_again_is_named(tmp_path):
    unit_result(tmp_path, "unit/test_bad", "FAIL", "[ RUN      ] one\n[  FAILED  ] one\n")
    assert report("--stage", "asan", f"unit:{tmp_path}")[1][-1] == "    again: scripts/check asan --only tests/unit/test_bad"
    (tmp_path / "it.xml").write_text('<testsuite><testcase classname="tests.integration.test_it" name="test_so[1-x]"><failure message="no"/>'
                                     "</testcase></testsuite>")
    again = "    again: scripts/check asan-run --only tests/integration/test_it.py::test_so"
    assert report("--stage", "asan-run", f"pytest:{tmp_path / 'it.xml'}")[1] == ["tests/integration/test_it.py::test_so[1-x]", "    no", again]
    (tmp_path / "dom0").mkdir()
    (tmp_path / "dom0/results").write_text("not ok test_boots\ndone\n")
    assert report("--stage", "xen", f"xen:{tmp_path}")[1][-1] == "    again: scripts/check xen --only test_boots"
    (tmp_path / "log").write_text("x: error: y\n")
    assert report("--stage", "model", f"log:{tmp_path / 'log'}")[1][-1] == "    again: scripts/check model"


def test_the_unit_test_in_which_a_program_ended_is_named(tmp_path):
    unit_result(tmp_path, "test_ends", "FAIL",
                "[ RUN      ] fine\n[       OK ] fine\n[ RUN      ] reads_too_far\n=================\n"
                "==7==ERROR: AddressSanitizer: heap-buffer-overflow\n    #0 0x1 in it\nFAIL test_ends (exit status: 1)\n")
    status, lines = report(f"unit:{tmp_path}")
    assert status == 0 and lines[0] == "tests/test_ends: reads_too_far"
    assert lines[1].endswith("heap-buffer-overflow") and "ended" in lines[-1]


def test_a_program_without_cmocka_is_named(tmp_path):
    unit_result(tmp_path, "header", "FAIL", "begins\nx.h:3:1: error: unknown type name 'size'\nlater\n")
    assert report(f"unit:{tmp_path}")[1][:2] == ["tests/header", "    x.h:3:1: error: unknown type name 'size'"]
    assert report(f"cmocka:{tmp_path}/tests/header.log")[1][:1] == ["    x.h:3:1: error: unknown type name 'size'"]


def test_results_of_an_earlier_run_are_not_reported(tmp_path):
    unit_result(tmp_path, "test_old", "FAIL", "x\n")
    stamp = tmp_path / ".unit-tests"
    stamp.write_text("")
    os.utime(stamp, (stamp.stat().st_mtime + 10,) * 2)
    assert report(f"unit:{tmp_path}") == (1, [])


def test_pytests_are_named_with_what_pytest_says(tmp_path):
    (tmp_path / "test_it.py").write_text("""
import pytest

@pytest.fixture
def broken():
    raise OSError("no fixture")

def test_fine():
    pass

def test_wrong():
    assert [1, 2] == [1, 3]

def test_set_up(broken):
    pass

def test_with_daemons():
    print("---- xenmsgd-0-1.log\\n2026-11-26T20:21:33.019Z info: host b: link is up\\n"
          "2026-11-26T20:21:33.020Z info: host b: link is down: it was idle\\n2026-11-26T20:21:33.081Z info: stopping: Terminated\\n"
          "---- xenmsgd-1-1.log\\n2026-11-26T20:21:33.018Z warning: it is odd\\n"
          "2026-11-26T20:21:33.082Z info: domain 0: link is down: the peer has closed it")
    assert False

def test_a_daemon_ended():
    raise AssertionError("ended with 1: a\\nb\\nc\\nd\\ne\\nf\\n==7==ERROR: AddressSanitizer: use-after-free\\n#0 0x1 in free_it a.c:1")
""")
    (tmp_path / "test_no_python.py").write_text("import what_is_not_there\n")
    subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", f"--rootdir={tmp_path}",
                    f"--junitxml={tmp_path}/it.xml", "-o", "junit_logging=out-err", "--continue-on-collection-errors", tmp_path],
                   cwd=tmp_path, stdout=subprocess.DEVNULL, timeout=60, check=False)
    status, lines = report(f"pytest:{tmp_path}/it.xml")
    text = "\n".join(lines)
    assert status == 0 and "test_fine" not in text
    wrong = lines.index("test_it.py::test_wrong")
    assert lines[wrong + 1].endswith("assert [1, 2] == [1, 3]") and "    test_it.py:12: AssertionError" in lines
    ended = lines.index("test_it.py::test_a_daemon_ended")
    assert "ended with 1: a" in lines[ended + 1] and "use-after-free" in lines[ended + 2] and "#0 0x1 in free_it a.c:1" in lines[ended + 3]
    logged = lines.index("test_it.py::test_with_daemons") + 3
    assert lines[logged : logged + 2] == ["    2026-11-26T20:21:33.018Z warning: it is odd",
                                          "    2026-11-26T20:21:33.020Z info: host b: link is down: it was idle"]
    assert "the peer has closed it" not in text
    assert "no fixture" in lines[lines.index("test_it.py::test_set_up") + 1]
    assert "test_no_python" in lines and "No module named 'what_is_not_there'" in text


@pytest.mark.skipif(not shutil.which("clang"), reason="clang is for the whole check only")
def test_a_fuzzers_finding_is_named(tmp_path):
    (tmp_path / "it.c").write_text("#include <stdint.h>\n#include <stddef.h>\n#include <stdlib.h>\n"
                                   "int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)\n"
                                   "{ if (size > 1 && data[0] == 'x') abort(); return 0; }\n")
    built = subprocess.run(["clang", "-fsanitize=fuzzer", "-o", tmp_path / "it", tmp_path / "it.c"], stderr=subprocess.DEVNULL, check=False)
    if built.returncode:
        pytest.skip("clang has no libFuzzer here")
    for name, stops in (("fuzz-it", []), ("fuzz-fine", ["-max_len=1"])):
        with open(tmp_path / f"{name}.log", "wb") as log:
            subprocess.run([tmp_path / "it", "-runs=100000", "-seed=1", f"-artifact_prefix={tmp_path}/", *stops], stderr=log, timeout=60,
                           check=False)
    status, lines = report(f"fuzz:{tmp_path}/fuzz-it.log", f"fuzz:{tmp_path}/fuzz-fine.log")
    text = "\n".join(lines)
    assert status == 0 and lines[0] == "fuzz-it" and "fuzz-fine" not in text
    assert "deadly signal" in text and f"Test unit written to {tmp_path}/crash-" in text


def test_a_test_on_real_xen_is_named_with_its_words(tmp_path):
    host = tmp_path / "oxenstored"
    host.mkdir()
    (host / "results").write_text("ok test_a 1.0 s\nnot ok test_b 2.0 s\nnot ok test_c 2.0 s\nok kernels: no complaint\ndone\n")
    (host / "test_b.log").write_text("+ fail 'not found'\n+ eventually 5 knows\nstill not after the time limit: knows\n"
                                     "===== the domains after the failure\nTraceback: of something else\n")
    (host / "test_c.log").write_text("+ [ 1 = 2 ]\n===== the domains after the failure\n")
    status, lines = report(f"xen:{tmp_path}")
    assert status == 0
    assert lines[:2] == ["test_b (oxenstored)", "    still not after the time limit: knows"]
    assert lines[lines.index("test_c (oxenstored)") + 1] == "    + [ 1 = 2 ]"
    assert "something else" not in "\n".join(lines)


def test_a_host_that_did_not_come_to_its_end_is_named(tmp_path):
    (tmp_path / "xenstored").mkdir()
    (tmp_path / "xenstored/results").write_text("ok test_a 1.0 s\n")
    assert "xenstored did not come to the end" in report(f"xen:{tmp_path}")[1][0]


def test_of_a_log_with_cases_the_failed_ones_are_reported(tmp_path):
    (tmp_path / "debian.log").write_text("---- built\nchecking: not found\nok built\nafter 3 s\n---- purged\n== purge\nthis is left:\n> /etc/x\n"
                                         "not ok purged\n")
    assert report(f"log:{tmp_path}/debian.log") == (0, ["purged", "    == purge", "    this is left:", "    > /etc/x"])


def test_where_nothing_is_known_of_tests_the_log_is_reported(tmp_path):
    (tmp_path / "build.log").write_text("making\na.c:1:2: error: expected ';'\nmake: failed\n")
    assert report("pytest:/nonexistent", f"fuzz:{tmp_path}/none", f"xen:{tmp_path}/none", f"unit:{tmp_path}") == (1, [])
    assert report(f"log:{tmp_path}/build.log") == (0, ["build", "    a.c:1:2: error: expected ';'", "    make: failed"])
