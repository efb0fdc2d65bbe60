# SPDX-License-Identifier: LGPL-2.1-or-later
# A fuzz target is built twice: `replay_X` runs the corpus in `make check`, `fuzz_X` is the libFuzzer program
# (./configure --enable-fuzzers CC=clang CFLAGS='-g -O1 -fsanitize=address,undefined,fuzzer-no-link').
EXTRA_DIST += tests/fuzz/corpus tests/fuzz/fuzz.h tests/fuzz/README.md tests/fuzz/soak
fuzz_replays = \
	tests/fuzz/replay_activation \
	tests/fuzz/replay_address \
	tests/fuzz/replay_client \
	tests/fuzz/replay_config \
	tests/fuzz/replay_conversation \
	tests/fuzz/replay_directory \
	tests/fuzz/replay_far_status \
	tests/fuzz/replay_frame \
	tests/fuzz/replay_gateway \
	tests/fuzz/replay_gateway_rings \
	tests/fuzz/replay_given_tags \
	tests/fuzz/replay_handshake \
	tests/fuzz/replay_hop \
	tests/fuzz/replay_host_policy \
	tests/fuzz/replay_image \
	tests/fuzz/replay_mux \
	tests/fuzz/replay_peers \
	tests/fuzz/replay_policy \
	tests/fuzz/replay_resume \
	tests/fuzz/replay_ring \
	tests/fuzz/replay_run \
	tests/fuzz/replay_store
check_PROGRAMS += $(fuzz_replays)
TESTS += $(fuzz_replays)

# Tests that write an image leave it as a seed, which is so always of the present layout.
image_seeds = \
	tests/unit/test_activation \
	tests/unit/test_hosts_image \
	tests/unit/test_image \
	tests/unit/test_memfd_lifetimes \
	tests/unit/test_relay \
	tests/unit/test_stream_image \
	tests/unit/test_told_image \
	tests/unit/test_topic_image
AM_TESTS_ENVIRONMENT = $(MKDIR_P) tests/fuzz/seeds/image; XENMSG_SEEDS=tests/fuzz/seeds; export XENMSG_SEEDS;
# By its name Automake would take this for the rule itself.
seeded = tests/fuzz/replay_image.log
$(seeded): $(image_seeds:=.log)
clean-local: clean-fuzz-seeds
clean-fuzz-seeds:
	rm -rf tests/fuzz/seeds

# The connections of the library end in the target itself.
wrap_connect = -Wl,--wrap=connect
tests_fuzz_replay_activation_SOURCES = tests/fuzz/fuzz_activation.c tests/fuzz/replay_main.c
tests_fuzz_replay_activation_LDADD = $(daemon_libs)
tests_fuzz_replay_address_SOURCES = tests/fuzz/fuzz_address.c tests/fuzz/replay_main.c
tests_fuzz_replay_address_LDADD = $(wire_lib)
tests_fuzz_replay_client_SOURCES = tests/fuzz/fuzz_client.c tests/fuzz/replay_main.c
tests_fuzz_replay_client_LDADD = $(client_lib)
tests_fuzz_replay_client_LDFLAGS = $(wrap_connect)
tests_fuzz_replay_config_SOURCES = tests/fuzz/fuzz_config.c tests/fuzz/replay_main.c
tests_fuzz_replay_config_LDADD = $(daemon_libs)
tests_fuzz_replay_conversation_SOURCES = tests/fuzz/fuzz_conversation.c tests/fuzz/replay_main.c
tests_fuzz_replay_conversation_LDADD = $(gateway_libs)
tests_fuzz_replay_directory_SOURCES = tests/fuzz/fuzz_directory.c tests/fuzz/replay_main.c tests/unit/no_host_policy.c $(fake_store)
tests_fuzz_replay_directory_LDADD = $(daemon_libs)
tests_fuzz_replay_far_status_SOURCES = tests/fuzz/fuzz_far_status.c tests/fuzz/replay_main.c
tests_fuzz_replay_far_status_LDADD = $(cli_libs)
tests_fuzz_replay_frame_SOURCES = tests/fuzz/fuzz_frame.c tests/fuzz/replay_main.c
tests_fuzz_replay_frame_LDADD = $(wire_lib)
tests_fuzz_replay_gateway_SOURCES = tests/fuzz/fuzz_gateway.c tests/fuzz/replay_main.c
tests_fuzz_replay_gateway_LDADD = $(wiregateway_libs)
tests_fuzz_replay_gateway_rings_SOURCES = tests/fuzz/fuzz_gateway_rings.c tests/fuzz/replay_main.c
tests_fuzz_replay_gateway_rings_LDADD = $(gateway_libs) $(LIBEVENT_LIBS)
tests_fuzz_replay_given_tags_SOURCES = tests/fuzz/fuzz_given_tags.c tests/fuzz/replay_main.c
tests_fuzz_replay_given_tags_LDADD = $(daemon_libs)
tests_fuzz_replay_handshake_SOURCES = tests/fuzz/fuzz_handshake.c tests/fuzz/replay_main.c
tests_fuzz_replay_handshake_LDADD = $(daemon_libs)
tests_fuzz_replay_hop_SOURCES = tests/fuzz/fuzz_hop.c tests/fuzz/replay_main.c
tests_fuzz_replay_hop_LDADD = $(daemon_libs)
tests_fuzz_replay_host_policy_SOURCES = tests/fuzz/fuzz_host_policy.c tests/fuzz/replay_main.c
tests_fuzz_replay_host_policy_LDADD = $(daemon_libs)
tests_fuzz_replay_image_SOURCES = tests/fuzz/fuzz_image.c tests/fuzz/replay_main.c
tests_fuzz_replay_image_LDADD = $(daemon_libs)
tests_fuzz_replay_mux_SOURCES = tests/fuzz/fuzz_mux.c tests/fuzz/replay_main.c
tests_fuzz_replay_mux_LDADD = $(client_lib)
tests_fuzz_replay_mux_LDFLAGS = $(wrap_connect)
tests_fuzz_replay_peers_SOURCES = tests/fuzz/fuzz_peers.c tests/fuzz/replay_main.c
tests_fuzz_replay_peers_LDADD = $(daemon_libs)
tests_fuzz_replay_policy_SOURCES = tests/fuzz/fuzz_policy.c tests/fuzz/replay_main.c
tests_fuzz_replay_policy_LDADD = $(daemon_libs)
tests_fuzz_replay_resume_SOURCES = tests/fuzz/fuzz_resume.c tests/fuzz/replay_main.c
tests_fuzz_replay_resume_LDADD = $(daemon_libs)
tests_fuzz_replay_ring_SOURCES = tests/fuzz/fuzz_ring.c tests/fuzz/replay_main.c
tests_fuzz_replay_ring_LDADD = $(wire_lib)
tests_fuzz_replay_run_SOURCES = tests/fuzz/fuzz_run.c tests/fuzz/replay_main.c
tests_fuzz_replay_run_LDADD = $(cli_libs)
tests_fuzz_replay_store_SOURCES = tests/fuzz/fuzz_store.c tests/fuzz/replay_main.c
tests_fuzz_replay_store_LDADD = $(simstore_libs)

if ENABLE_FUZZERS
fuzzers = $(subst /replay_,/fuzz_,$(fuzz_replays))
all-local: $(fuzzers)
CLEANFILES += $(fuzzers)
# Of the same objects and libraries, with libFuzzer's main in place of ours.
$(fuzzers): tests/fuzz/fuzz_%: tests/fuzz/replay_%
	$(AM_V_CCLD)$(LINK) -fsanitize=fuzzer $(tests_fuzz_replay_$*_LDFLAGS) \
		$(filter-out %replay_main.$(OBJEXT),$(tests_fuzz_replay_$*_OBJECTS)) $(tests_fuzz_replay_$*_LDADD) $(LIBS)
endif
