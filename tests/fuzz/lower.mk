# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz target of what the daemon reads from other domains.
check_PROGRAMS += tests/fuzz/replay_peers
TESTS += tests/fuzz/replay_peers
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_peers
endif

tests_fuzz_replay_peers_SOURCES = tests/fuzz/fuzz_peers.c tests/fuzz/replay_main.c
tests_fuzz_replay_peers_LDADD = $(daemon_libs)
tests_fuzz_fuzz_peers_SOURCES = tests/fuzz/fuzz_peers.c
tests_fuzz_fuzz_peers_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_peers_LDADD = $(daemon_libs)
