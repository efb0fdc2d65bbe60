# SPDX-License-Identifier: LGPL-2.1-or-later
"""A process in each of two domains, with an event channel between them or a page besides, by Xen's own libraries."""


def take(xen, port):
    """The event of this port, which is the first that waits on handle 0."""
    assert xen.ok("pending", 0) == port
    xen.ok("unmask", 0, port)


def bound(host, server=1, client=2):
    """Both, and the ports of a channel on their handles 0, the client's first event taken."""
    one, two = host.xen(server), host.xen(client)
    for side in (one, two):
        assert side.ok("evtchn-open") == 0
    server_port = one.ok("bind-unbound", 0, client)
    client_port = two.ok("bind-interdomain", 0, server, server_port)
    take(two, client_port)
    return one, two, server_port, client_port


def sharing(host, granter=1, mapper=2):
    """The same with a page: where the granter and the mapper have it, and its reference. Of its bytes 22 is cleared when the granter
    lets go of it, and 23 when the mapper does, each with an event for the other; both are 1, and byte 100 is 42."""
    one, two, server_port, client_port = bound(host, granter, mapper)
    memory, ref = one.ok("share-notify", mapper, 22, server_port)
    for byte, value in ((22, 1), (23, 1), (100, 42)):
        one.ok("poke", memory, byte, value)
    mapped = two.ok("map-notify", granter, ref, 23, client_port)
    return one, two, server_port, client_port, memory, mapped, ref
