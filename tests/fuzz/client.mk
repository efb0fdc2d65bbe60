# SPDX-License-Identifier: LGPL-2.1-or-later
# The fuzz targets of libclient/, whose connections end in the target itself, and of cli/.
client_replays = tests/fuzz/replay_client tests/fuzz/replay_mux tests/fuzz/replay_run
check_PROGRAMS += $(client_replays)
TESTS += $(client_replays)
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_client tests/fuzz/fuzz_mux tests/fuzz/fuzz_run
endif
wrap_connect = -Wl,--wrap=connect

tests_fuzz_replay_client_SOURCES = tests/fuzz/fuzz_client.c tests/fuzz/replay_main.c
tests_fuzz_replay_client_LDFLAGS = $(wrap_connect)
tests_fuzz_replay_client_LDADD = $(client_lib)
tests_fuzz_fuzz_client_SOURCES = tests/fuzz/fuzz_client.c
tests_fuzz_fuzz_client_LDFLAGS = $(LINK_FUZZER) $(wrap_connect)
tests_fuzz_fuzz_client_LDADD = $(client_lib)

tests_fuzz_replay_mux_SOURCES = tests/fuzz/fuzz_mux.c tests/fuzz/replay_main.c
tests_fuzz_replay_mux_LDFLAGS = $(wrap_connect)
tests_fuzz_replay_mux_LDADD = $(client_lib)
tests_fuzz_fuzz_mux_SOURCES = tests/fuzz/fuzz_mux.c
tests_fuzz_fuzz_mux_LDFLAGS = $(LINK_FUZZER) $(wrap_connect)
tests_fuzz_fuzz_mux_LDADD = $(client_lib)

tests_fuzz_replay_run_SOURCES = tests/fuzz/fuzz_run.c tests/fuzz/replay_main.c
tests_fuzz_replay_run_LDADD = $(cli_libs)
tests_fuzz_fuzz_run_SOURCES = tests/fuzz/fuzz_run.c
tests_fuzz_fuzz_run_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_run_LDADD = $(cli_libs)
