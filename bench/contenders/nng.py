# SPDX-License-Identifier: LGPL-2.1-or-later
"""nng over TCP, directly, and through a device of its own on either side."""

from contenders import zeromq


class Direct(zeromq.Direct):
    key, label = "nng", "nng over TCP"
    program, middle, header, package = "bench-nng", "device", "nng/nng.h", "libnng-dev"


class ThroughTwo(zeromq.ThroughTwo):
    key, label = "nng-devices", "nng, two devices"
    program, middle, header, package = Direct.program, Direct.middle, Direct.header, Direct.package


CONTENDERS = [Direct, ThroughTwo]
