# SPDX-License-Identifier: LGPL-2.1-or-later
# A fuzz target is built twice: `replay_X` runs the corpus in `make check`, `fuzz_X` is the libFuzzer program
# (./configure --enable-fuzzers CC=clang CFLAGS='-g -O1 -fsanitize=address,undefined,fuzzer-no-link').
LINK_FUZZER = -fsanitize=fuzzer
EXTRA_DIST += tests/fuzz/corpus tests/fuzz/fuzz.h tests/fuzz/README.md tests/fuzz/soak
fuzz_replays = tests/fuzz/replay_config tests/fuzz/replay_directory tests/fuzz/replay_store
check_PROGRAMS += $(fuzz_replays)
TESTS += $(fuzz_replays)
if ENABLE_FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_config tests/fuzz/fuzz_directory tests/fuzz/fuzz_store
endif

tests_fuzz_replay_config_SOURCES = tests/fuzz/fuzz_config.c tests/fuzz/replay_main.c
tests_fuzz_replay_config_LDADD = $(daemon_libs)
tests_fuzz_fuzz_config_SOURCES = tests/fuzz/fuzz_config.c
tests_fuzz_fuzz_config_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_config_LDADD = $(daemon_libs)

tests_fuzz_replay_directory_SOURCES = tests/fuzz/fuzz_directory.c tests/fuzz/replay_main.c tests/unit/no_host_policy.c $(fake_store)
tests_fuzz_replay_directory_LDADD = $(daemon_libs)
tests_fuzz_fuzz_directory_SOURCES = tests/fuzz/fuzz_directory.c tests/unit/no_host_policy.c $(fake_store)
tests_fuzz_fuzz_directory_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_directory_LDADD = $(daemon_libs)

tests_fuzz_replay_store_SOURCES = tests/fuzz/fuzz_store.c tests/fuzz/replay_main.c
tests_fuzz_replay_store_LDADD = $(simstore_libs)
tests_fuzz_fuzz_store_SOURCES = tests/fuzz/fuzz_store.c
tests_fuzz_fuzz_store_LDFLAGS = $(LINK_FUZZER)
tests_fuzz_fuzz_store_LDADD = $(simstore_libs)
