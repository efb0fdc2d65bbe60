# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz target of libclient/. Its connections end in the target itself.
check_PROGRAMS += tests/fuzz/replay_client
TESTS += tests/fuzz/replay_client
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_client
endif
wrap_connect = -Wl,--wrap=connect

tests_fuzz_replay_client_SOURCES = tests/fuzz/fuzz_client.c tests/fuzz/replay_main.c
tests_fuzz_replay_client_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"client"'
tests_fuzz_replay_client_LDFLAGS = $(wrap_connect)
tests_fuzz_replay_client_LDADD = libclient.la
tests_fuzz_fuzz_client_SOURCES = tests/fuzz/fuzz_client.c
tests_fuzz_fuzz_client_LDFLAGS = $(LINK_FUZZER) $(wrap_connect)
tests_fuzz_fuzz_client_LDADD = libclient.la

# And that of cli/.
check_PROGRAMS += tests/fuzz/replay_run
TESTS += tests/fuzz/replay_run
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_run
endif

tests_fuzz_replay_run_SOURCES = tests/fuzz/fuzz_run.c tests/fuzz/replay_main.c
tests_fuzz_replay_run_CPPFLAGS = $(AM_CPPFLAGS) -DFUZZ_CORPUS='"run"'
tests_fuzz_replay_run_LDADD = libcli.la
tests_fuzz_fuzz_run_SOURCES = tests/fuzz/fuzz_run.c
tests_fuzz_fuzz_run_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_run_LDADD = libcli.la
