# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz targets of wire/.
wire_replays = tests/fuzz/replay_frame tests/fuzz/replay_address tests/fuzz/replay_ring tests/fuzz/replay_gateway
check_PROGRAMS += $(wire_replays)
TESTS += $(wire_replays)
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_frame tests/fuzz/fuzz_address tests/fuzz/fuzz_ring tests/fuzz/fuzz_gateway
endif

tests_fuzz_replay_frame_SOURCES = tests/fuzz/fuzz_frame.c tests/fuzz/replay_main.c
tests_fuzz_replay_frame_LDADD = $(wire_lib)
tests_fuzz_fuzz_frame_SOURCES = tests/fuzz/fuzz_frame.c
tests_fuzz_fuzz_frame_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_frame_LDADD = $(wire_lib)

tests_fuzz_replay_address_SOURCES = tests/fuzz/fuzz_address.c tests/fuzz/replay_main.c
tests_fuzz_replay_address_LDADD = $(wire_lib)
tests_fuzz_fuzz_address_SOURCES = tests/fuzz/fuzz_address.c
tests_fuzz_fuzz_address_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_address_LDADD = $(wire_lib)

tests_fuzz_replay_ring_SOURCES = tests/fuzz/fuzz_ring.c tests/fuzz/replay_main.c
tests_fuzz_replay_ring_LDADD = $(wire_lib)
tests_fuzz_fuzz_ring_SOURCES = tests/fuzz/fuzz_ring.c
tests_fuzz_fuzz_ring_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_ring_LDADD = $(wire_lib)

tests_fuzz_replay_gateway_SOURCES = tests/fuzz/fuzz_gateway.c tests/fuzz/replay_main.c
tests_fuzz_replay_gateway_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"gateway"'
tests_fuzz_replay_gateway_LDADD = $(wiregateway_libs)
tests_fuzz_fuzz_gateway_SOURCES = tests/fuzz/fuzz_gateway.c
tests_fuzz_fuzz_gateway_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_gateway_LDADD = $(wiregateway_libs)
