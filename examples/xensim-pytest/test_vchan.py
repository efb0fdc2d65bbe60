# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two programs that speak through a vchan, here vchan-socket-proxy of Debian's xen-utils: python3 -m pytest test_vchan.py"""

import glob
import shutil
import socket

import pytest

PROXY = shutil.which("vchan-socket-proxy", path=":".join(glob.glob("/usr/lib/xen-*/bin")))
pytestmark = pytest.mark.skipif(not PROXY, reason="vchan-socket-proxy isn't there: install xen-utils")


def connected(host, tmp_path):
    """A program's connection to another one's, through a vchan from domain 2 to domain 1."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "service"))
    listener.listen()
    host.popen(1, PROXY, "-m", "server", 2, "data/proxy", tmp_path / "service")
    host.wait_for(lambda: "ring-ref" in host.run(0, "xenstore-ls", "/local/domain/1/data"), "the server")
    host.popen(2, PROXY, "-m", "client", 1, "/local/domain/1/data/proxy", tmp_path / "door")
    client = socket.socket(socket.AF_UNIX)
    host.wait_for(lambda: client.connect_ex(str(tmp_path / "door")) == 0, "the client")
    service, _ = listener.accept()
    listener.close()
    return client, service


def test_what_is_sent_arrives(xen_host, tmp_path):
    client, service = connected(xen_host, tmp_path)
    client.sendall(b"hello")
    assert service.recv(100) == b"hello"
    xen_host.xensim("pause", 1)  # a slow peer
    client.sendall(b" again")
    xen_host.xensim("unpause", 1)
    assert service.recv(100) == b" again"
    client.close(), service.close()


def test_a_shut_down_guest_ends_the_connection(xen_host, tmp_path):
    client, service = connected(xen_host, tmp_path)
    xen_host.xensim("shutdown", 1)
    assert client.recv(100) == b""
    assert xen_host.domain(1) is None
    client.close(), service.close()
