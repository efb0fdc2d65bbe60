# SPDX-License-Identifier: LGPL-2.1-or-later
"""Two programs that speak through a vchan, here vchan-socket-proxy of Debian's xen-utils: python3 -m pytest test_vchan.py"""

import contextlib
import glob
import shutil
import socket

import pytest

PROXY = shutil.which("vchan-socket-proxy", path=":".join(glob.glob("/usr/lib/xen-*/bin")))
pytestmark = pytest.mark.skipif(not PROXY, reason="vchan-socket-proxy isn't there: install xen-utils")


def a_socket():
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(60)  # a test that fails doesn't hang
    return made


@contextlib.contextmanager
def connected(host, tmp_path):
    """A program's connection to another one's, through a vchan from domain 2 to domain 1."""
    with a_socket() as listener, a_socket() as client:
        listener.bind(str(tmp_path / "service"))
        listener.listen()
        host.popen(1, PROXY, "-m", "server", 2, "data/proxy", tmp_path / "service")
        host.wait_for(lambda: "ring-ref" in host.run(0, "xenstore-ls", "/local/domain/1/data"), "the server")
        host.popen(2, PROXY, "-m", "client", 1, "/local/domain/1/data/proxy", tmp_path / "door")
        host.wait_for(lambda: client.connect_ex(str(tmp_path / "door")) == 0, "the client")
        service, _ = listener.accept()
        with service:
            service.settimeout(60)
            yield client, service


def read(stream, size):
    """A stream may come in pieces."""
    data = b""
    while len(data) < size and (piece := stream.recv(size - len(data))):
        data += piece
    return data


def test_what_is_sent_arrives(xen_host, tmp_path):
    with connected(xen_host, tmp_path) as (client, service):
        client.sendall(b"hello")
        assert read(service, 5) == b"hello"
        xen_host.xensim("pause", 1)  # a slow peer
        client.sendall(b" again")
        xen_host.xensim("unpause", 1)
        assert read(service, 6) == b" again"


def test_a_shut_down_guest_ends_the_connection(xen_host, tmp_path):
    with connected(xen_host, tmp_path) as (client, _):
        xen_host.xensim("shutdown", 1)
        assert client.recv(100) == b""
        assert xen_host.domain(1) is None
