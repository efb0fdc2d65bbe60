# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim gives the answers of real Xen: tests/conformance/answers holds those, and tests/xen/run holds real Xen to it.

With C xenstored some of them are others, which answers.xenstored has.
"""

import os
import pathlib
import re
import subprocess

import pytest

from conftest import program
from messaging import SOURCES

SOURCE = pathlib.Path(SOURCES) / "tests/conformance"
CASES = re.search(r"^conformance_cases='(.*)'$", (SOURCE / "cases.sh").read_text(), re.MULTILINE).group(1).split()


STORE_CASES = [name for name in CASES if name.startswith("store_") or name == "raw_store"]


def answers(name, store):
    """Those of one case, by section."""
    text = (SOURCE / "answers").read_text()
    other = (SOURCE / "answers.xenstored").read_text()
    if store == "xenstored" and f"--- {name}\n" in other:
        text = other
    if f"--- {name}\n" not in text:
        pytest.fail(f"there are no answers for {name}")
    return text.split(f"--- {name}\n")[1].split("--- ")[0]


@pytest.mark.parametrize("name, store", [(name, "oxenstored") for name in CASES] + [(name, "xenstored") for name in STORE_CASES])
def test_xensim_answers_as_xen_does(make_host, name, store):
    host = make_host(3, "--store", store)
    path = ":".join([os.path.dirname(program("xensim")), os.path.dirname(program("check-xen")), os.environ["PATH"]])
    # What touches memory that isn't there dies of that by SIGSEGV, under a sanitizer, too; and what xenstore-ls leaks is Xen's.
    options = os.environ.get("ASAN_OPTIONS", "") + ":handle_segv=0:detect_leaks=0"
    done = subprocess.run(["sh", SOURCE / "on-xensim.sh", name], env=dict(host.environment, PATH=path, ASAN_OPTIONS=options),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == f"--- {name}\n" + answers(name, store), done.stderr
