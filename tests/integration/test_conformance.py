# SPDX-License-Identifier: LGPL-2.1-or-later
"""xensim gives the answers of real Xen: tests/conformance/answers holds those, and tests/xen/run holds real Xen to it.

With C xenstored some of them are others, which answers.xenstored has for tests/xen/run: xensim follows oxenstored.
"""

import os
import pathlib
import re
import subprocess

import pytest

from conftest import program

SOURCE = pathlib.Path(os.environ.get("XENMSG_SRCDIR", pathlib.Path(__file__).resolve().parents[2])) / "tests/conformance"
CASES = re.search(r"^conformance_cases='(.*)'$", (SOURCE / "cases.sh").read_text(), re.MULTILINE).group(1).split()


def answers(name):
    """Those of one case, by section."""
    text = (SOURCE / "answers").read_text()
    if f"--- {name}\n" not in text:
        pytest.fail(f"there are no answers for {name}")
    return text.split(f"--- {name}\n")[1].split("--- ")[0]


@pytest.mark.parametrize("name", CASES)
def test_xensim_answers_as_xen_does(make_host, name):
    host = make_host()
    path = ":".join([os.path.dirname(program("xensim")), os.path.dirname(program("check-xen")), os.environ["PATH"]])
    done = subprocess.run(["sh", SOURCE / "on-xensim.sh", name], env=dict(host.environment, PATH=path),
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.stdout == f"--- {name}\n" + answers(name), done.stderr
