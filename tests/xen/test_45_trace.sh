# SPDX-License-Identifier: LGPL-2.1-or-later
# What a program asks of Xen's libraries here is what it asks on the simulator: tests/conformance/vchan.trace is held to both.

# The server is in the domain with the smaller number, as there.
test_a_vchans_trace_is_that_of_the_simulator() { # direct
	background u1 server "printf 'text hello\\nwait 40000\\nclose\\n' |
		xensim trace /tmp/server.trace -- check-vchan server $(domid u2) data/stock 4096 8192"
	eventually 30 xenstore-exists "/local/domain/$(domid u1)/data/stock/event-channel"
	on u2 "printf 'gettext 5\\nclose\\n' |
		xensim trace /tmp/client.trace -- check-vchan client $(domid u1) /local/domain/$(domid u1)/data/stock" | grep -qx 'ok hello'
	ended u1 server 0
	mkdir -p /out/conformance
	{ on u1 'cat /tmp/server.trace' && on u2 'cat /tmp/client.trace'; } >/out/conformance/vchan.trace
	xensim compare /rig/conformance/vchan.trace /out/conformance/vchan.trace
}
