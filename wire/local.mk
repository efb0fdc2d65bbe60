# SPDX-License-Identifier: LGPL-2.1-or-later
# What both ends of a hop share: rings, frames, addresses.
noinst_LTLIBRARIES += libwire.la
libwire_la_SOURCES = \
	wire/address.c wire/address.h \
	wire/advice.c wire/advice.h \
	wire/bytes.h \
	wire/channel_table.c wire/channel_table.h \
	wire/cursor.h \
	wire/doorbell.c wire/doorbell.h \
	wire/frame.c wire/frame.h wire/frame_link.c wire/frame_ring.h \
	wire/hash.c wire/hash.h wire/ut.h \
	wire/libc.h \
	wire/outcomes.h \
	wire/probes.h \
	wire/properties.c wire/properties.h \
	wire/retry.h \
	wire/ring.c wire/ring.h wire/ring_inline.h wire/local_ring.h wire/untrusted_copy.h \
	wire/stream_break.c wire/stream_break.h \
	wire/text.h \
	wire/cpu_atomics.c wire/cpu_atomics.h
# Its archive, for programs that libtool doesn't link.
wire_lib = .libs/libwire.a
$(wire_lib): libwire.la ;

# What a daemon and its gateway say to each other, and JSON: apart, since the library for programs needs no JSON.
noinst_LIBRARIES += libwiregateway.a
libwiregateway_a_SOURCES = wire/gateway.c wire/gateway.h wire/gateway_rings.h wire/json.c wire/json.h
wiregateway_libs = libwiregateway.a $(wire_lib)
