# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the shells offer to complete: what there is to type, and who is there now."""

import os
import shutil
import subprocess

import pytest

from messaging import eventually, tool
from test_hosts import joined_hosts  # the fixture `hosts`  # noqa: F401  pylint: disable=unused-import

SCRIPTS = os.path.join(os.environ.get("XENMSG_SRCDIR", os.path.join(os.path.dirname(__file__), "..", "..")), "cli/completion")
OFFER = """PATH=$(dirname "$2"):$PATH; . "$1"; COMP_LINE=$3; COMP_POINT=${#3}; _xenmsg; printf '%s\\n' "${COMPREPLY[@]}" """


def offered(node, line):
    done = node.run_command("bash", "-c", OFFER, "bash", os.path.join(SCRIPTS, "bash/xenmsg"), tool("xenmsg"), line)
    assert done.returncode == 0 and done.stderr == b"", done
    return set(done.stdout.decode().split())


def test_bash_offers_commands_options_domains_and_endpoints(nodes):
    one, two = nodes(1, 2).values()
    assert {"help", "send", "recv", "status", "top"} <= offered(one, "xenmsg ")
    assert offered(one, "xenmsg se") == {"send", "serve"} and offered(one, "xenmsg help se") == {"send", "serve"}
    assert offered(one, "xenmsg send --t") == {"--timeout"} and "--exec" in offered(one, "xenmsg recv --")
    two.receiver("inbox")
    eventually(lambda: "2:inbox" in offered(one, "xenmsg send "), "the endpoint is offered")
    one.popen("listen", "sort")
    one.receiver("log")
    eventually(lambda: "1:sort" in offered(one, "xenmsg run "), "what takes streams is offered")
    assert "1:sort" in offered(one, "xenmsg connect ") and "1:sort" not in offered(one, "xenmsg send ")
    assert "1:log" in offered(one, "xenmsg send ") and "1:log" not in offered(one, "xenmsg call ") | offered(one, "xenmsg run ")
    assert "2:inbox" not in offered(one, "xenmsg run ") | offered(one, "xenmsg call ")  # its domain tells what it takes
    assert offered(one, "xenmsg send 2:i") == {"inbox"}  # behind the colon
    assert "--serve" in offered(one, "xenmsg bench --s") and {"2", "self"} <= offered(one, "xenmsg bench ")
    assert {"2", "self"} <= offered(one, "xenmsg ping ") and offered(one, "xenmsg policy c") == {"check"}
    assert {"check", "show", "denied", "reload"} <= offered(one, "xenmsg policy ")
    one.kill()
    assert offered(one, "xenmsg send ") == set()


def test_bash_offers_other_hosts(hosts):
    here, _ = hosts()
    assert offered(here, "xenmsg peers ") == {"hostb"} and "hostb/" in offered(here, "xenmsg endpoints ho")
    assert {"hostb/", "self"} <= offered(here, "xenmsg watch ")


@pytest.mark.parametrize("shell, script", [("bash", "bash/xenmsg"), ("zsh", "_xenmsg"), ("fish", "xenmsg.fish")])
def test_each_shell_can_read_its_own(shell, script):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not there")
    done = subprocess.run([shell, "-n", os.path.join(SCRIPTS, script)], capture_output=True, check=False)
    assert done.returncode == 0 and done.stderr == b""
