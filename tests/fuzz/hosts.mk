# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz targets of what other hosts' gateways say, and of what goes through the rings that a daemon shares with its gateway.
check_PROGRAMS += tests/fuzz/replay_conversation tests/fuzz/replay_gateway_rings
TESTS += tests/fuzz/replay_conversation tests/fuzz/replay_gateway_rings
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_conversation tests/fuzz/fuzz_gateway_rings
endif

tests_fuzz_replay_conversation_SOURCES = tests/fuzz/fuzz_conversation.c tests/fuzz/replay_main.c
tests_fuzz_replay_conversation_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"conversation"'
tests_fuzz_replay_conversation_LDADD = $(gateway_libs)
tests_fuzz_fuzz_conversation_SOURCES = tests/fuzz/fuzz_conversation.c
tests_fuzz_fuzz_conversation_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_conversation_LDADD = $(gateway_libs)

tests_fuzz_replay_gateway_rings_SOURCES = tests/fuzz/fuzz_gateway_rings.c tests/fuzz/replay_main.c
tests_fuzz_replay_gateway_rings_LDADD = $(gateway_libs) $(LIBEVENT_LIBS)
tests_fuzz_fuzz_gateway_rings_SOURCES = tests/fuzz/fuzz_gateway_rings.c
tests_fuzz_fuzz_gateway_rings_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_gateway_rings_LDADD = $(gateway_libs) $(LIBEVENT_LIBS)
