# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim gives the answers of real Xen: tests/conformance/answers holds those, and tests/xen/run holds real Xen to it.

With C xenstored some of them are others: answers.xenstored has those cases.
"""

import os
import pathlib
import re
import subprocess

import pytest

from conftest import program

SOURCE = pathlib.Path(os.environ.get("XENMSG_SRCDIR", pathlib.Path(__file__).resolve().parents[2])) / "tests/conformance"
CASES = re.search(r"^conformance_cases='(.*)'$", (SOURCE / "cases.sh").read_text(), re.MULTILINE).group(1).split()


def answers(name, store):
    """Those of one case, by section."""
    for file in (f"answers.{store}", "answers"):
        text = (SOURCE / file).read_text() if (SOURCE / file).exists() else ""
        if f"--- {name}\n" in text:
            return text.split(f"--- {name}\n")[1].split("--- ")[0]
    return pytest.fail(f"there are no answers for {name}")


@pytest.mark.parametrize("store, name", [("oxenstored", name) for name in CASES] +
                         [("xenstored", name) for name in CASES if name.startswith("store_")])
def test_xensim_answers_as_xen_does(make_host, store, name):
    host = make_host(store=store)
    path = ":".join([os.path.dirname(program("xensim")), os.path.dirname(program("check-xen")), os.environ["PATH"]])
    done = subprocess.run(["sh", SOURCE / "on-xensim.sh", name], env=dict(host.environment, PATH=path),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == f"--- {name}\n" + answers(name, store), done.stderr
