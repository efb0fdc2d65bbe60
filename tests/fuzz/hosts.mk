# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz target of what other hosts' gateways say.
check_PROGRAMS += tests/fuzz/replay_conversation
TESTS += tests/fuzz/replay_conversation
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_conversation
endif

tests_fuzz_replay_conversation_SOURCES = tests/fuzz/fuzz_conversation.c tests/fuzz/replay_main.c
tests_fuzz_replay_conversation_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"conversation"'
tests_fuzz_replay_conversation_LDADD = libgateway.la
tests_fuzz_fuzz_conversation_SOURCES = tests/fuzz/fuzz_conversation.c
tests_fuzz_fuzz_conversation_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_conversation_LDADD = libgateway.la
