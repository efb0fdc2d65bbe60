# SPDX-License-Identifier: LGPL-2.1-or-later
# Unit tests: one program per part, each linking what it tests. A new one is added to unit_tests, and is test_NAME.c with
# the daemon unless its SOURCES and LDADD say otherwise.
unit_tests =
check_LIBRARIES =
check_LTLIBRARIES =
UNIT_LIBS = libunit.a $(CMOCKA_LIBS)
LDADD = $(daemon_libs) $(UNIT_LIBS)
libunit_a_SOURCES = tests/unit/unit.c tests/unit/unit_main.c tests/unit/unit.h
if HAVE_CMOCKA
check_LIBRARIES += libunit.a
unit_tests += \
	tests/unit/test_config
endif

include tests/unit/wire.mk
include tests/unit/lower.mk
include tests/unit/daemon.mk
include tests/unit/client.mk
include tests/unit/surface.mk
include tests/unit/gateway.mk

check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
# Libtool needs several times as long as the linker, and has nothing to do where nothing is installed.
$(unit_tests) $(filter tests/fuzz/%,$(check_PROGRAMS)): private LINK = $(CCLD) $(AM_CFLAGS) $(CFLAGS) $(AM_LDFLAGS) $(LDFLAGS) -o $@

# What the integration tests start in domains.
check_PROGRAMS += hostile-peer hostile-program bystander chaos-program
hostile_peer_SOURCES = \
	tests/integration/hostile_flood.c \
	tests/integration/hostile_hoard.c \
	tests/integration/hostile_peer.c \
	tests/integration/hostile_peer.h
hostile_peer_LDADD = $(wire_lib) $(XENVCHAN_LIBS) $(XENSTORE_LIBS) $(XENEVTCHN_LIBS) $(XENGNTTAB_LIBS)
chaos_program_SOURCES = \
	tests/integration/chaos.h \
	tests/integration/chaos_calls.c \
	tests/integration/chaos_messages.c \
	tests/integration/chaos_program.c \
	tests/integration/chaos_streams.c
chaos_program_LDADD = libxenmsg.la
hostile_program_SOURCES = \
	tests/descriptors.h \
	tests/integration/hostile_descriptors.c \
	tests/integration/hostile_kernel.c \
	tests/integration/hostile_topics.c \
	tests/integration/hostile_frames.c \
	tests/integration/hostile_program.c \
	tests/integration/hostile_program.h \
	tests/integration/hostile_random.c \
	tests/integration/hostile_random.h \
	tests/integration/hostile_random_streams.c \
	tests/integration/hostile_session.c \
	tests/integration/hostile_sockets.c
hostile_program_LDADD = $(wire_lib)
bystander_SOURCES = tests/integration/bystander.c
bystander_LDADD = libxenmsg.la
# Programs and not scripts around them, since they are killed by their numbers.
bystander_LDFLAGS = -no-install
chaos_program_LDFLAGS = -no-install

integration_tests = \
	tests/integration/chaos_checks.py \
	tests/integration/conftest.py \
	tests/integration/fake_gateway.py tests/integration/frames.py tests/integration/gateway_rings.py \
	tests/integration/gateway_rig.py \
	tests/integration/installed.py tests/integration/joined_hosts.py \
	tests/integration/library.py \
	tests/integration/messaging.py \
	tests/integration/mux.py \
	tests/integration/nats_rig.py \
	tests/integration/python_module.py \
	tests/integration/protocol.py tests/integration/polling.py tests/integration/renewing.py tests/integration/service_manager.py \
	tests/integration/test_activation.py \
	tests/integration/test_bad_input.py \
	tests/integration/test_properties.py \
	tests/integration/test_busy_poll.py \
	tests/integration/test_calls.py \
	tests/integration/test_chaos.py \
	tests/integration/test_chaos_checks.py \
	tests/integration/test_chaos_hosts.py \
	tests/integration/test_cli_bench.py tests/integration/test_cli_completion.py \
	tests/integration/test_cli_hard.py \
	tests/integration/test_cli_help.py \
	tests/integration/test_cli_interrupt.py \
	tests/integration/test_cli_json.py \
	tests/integration/test_cli_large.py \
	tests/integration/test_cli_messages.py \
	tests/integration/test_cli_paused.py \
	tests/integration/test_cli_queries.py \
	tests/integration/test_cli_streams.py \
	tests/integration/test_cli_terminal.py \
	tests/integration/test_cli_verbs.py \
	tests/integration/test_forward.py \
	tests/integration/test_conformance.py \
	tests/integration/test_delivery.py \
	tests/integration/test_discovery.py tests/integration/test_forgetting.py \
	tests/integration/test_container.py \
	tests/integration/test_doctor.py \
	tests/integration/test_example_calls.py \
	tests/integration/test_exporter.py \
	tests/integration/test_hosts.py \
	tests/integration/test_hosts_hostile.py \
	tests/integration/test_hosts_lists.py \
	tests/integration/test_hosts_nats.py tests/integration/test_host_map.py \
	tests/integration/test_hosts_promise.py \
	tests/integration/test_gateway.py \
	tests/integration/test_interop.py \
	tests/integration/test_limits.py \
	tests/integration/test_manual.py \
	tests/integration/test_memory.py \
	tests/integration/test_mux.py \
	tests/integration/test_names.py \
	tests/integration/test_no_xen.py \
	tests/integration/test_others_store.py \
	tests/integration/test_packages.py \
	tests/integration/test_peers_life.py \
	tests/integration/test_printed.py \
	tests/integration/test_policy.py tests/integration/test_host_policy.py tests/integration/test_host_policy_many.py tests/integration/test_release.py \
	tests/integration/test_python.py \
	tests/integration/test_python_ends.py tests/integration/test_python_topics.py \
	tests/integration/test_python_broken_off.py \
	tests/integration/test_handover.py tests/integration/test_handover_links.py tests/integration/test_handover_hosts.py \
	tests/integration/test_handover_activation.py tests/integration/test_handover_builds.py tests/integration/test_handover_streams.py \
	tests/integration/test_handover_topics.py \
	tests/integration/test_handover_ends.py tests/integration/test_handover_no_session.py \
	tests/integration/test_handover_troubles.py \
	tests/integration/test_reconnect.py tests/integration/test_restart.py \
	tests/integration/test_relay.py \
	tests/integration/test_first_hour.py \
	tests/integration/test_floors.py \
	tests/integration/test_report.py \
	tests/integration/test_restore.py \
	tests/integration/test_resume.py \
	tests/integration/test_resume_restored.py \
	tests/integration/test_elastic.py \
	tests/integration/test_run.py \
	tests/integration/test_shared.py \
	tests/integration/test_shares.py \
	tests/integration/test_rust.py \
	tests/integration/test_shown_examples.py tests/integration/test_sight.py \
	tests/integration/test_sim_bad.py \
	tests/integration/test_sim_control.py tests/integration/test_sim_device.py \
	tests/integration/test_sim_evtchn.py \
	tests/integration/test_sim_foreign.py \
	tests/integration/test_sim_grants.py \
	tests/integration/test_sim_header.py tests/integration/test_sim_host.py \
	tests/integration/test_sim_life.py tests/integration/test_sim_pytest.py tests/integration/test_sim_run.py tests/integration/test_sim_trace.py \
	tests/integration/test_sim_order.py tests/integration/test_sim_record.py tests/integration/test_sim_save.py \
	tests/integration/test_sim_vchan.py \
	tests/integration/static_program.c tests/integration/test_sim_static.py \
	tests/integration/test_stale.py \
	tests/integration/test_standstill.py \
	tests/integration/test_status.py \
	tests/integration/test_store_lost.py \
	tests/integration/test_views.py \
	tests/integration/test_streams.py \
	tests/integration/test_streams_many.py \
	tests/integration/test_systemd.py \
	tests/integration/test_time.py \
	tests/integration/test_top.py \
	tests/integration/test_latency.py \
	tests/integration/test_trace.py \
	tests/integration/test_topics.py tests/integration/test_topics_hostile.py \
	tests/integration/test_topics_everywhere.py \
	tests/integration/test_topics_model.py \
	tests/integration/test_topics_pattern.py \
	tests/integration/test_waiting.py \
	tests/integration/test_watch_quota.py tests/integration/test_xsm.py \
	tests/integration/test_without_waiting.py \
	tests/integration/test_xen_rig.py \
	tests/integration/users.py
include tests/integration/lower.mk
include tests/integration/protocol.mk
EXTRA_DIST += $(integration_tests) tests/lsan.supp
include tests/fuzz/local.mk
include tests/fuzz/wire.mk
include tests/fuzz/daemon.mk
include tests/fuzz/client.mk
include tests/fuzz/lower.mk
include tests/fuzz/surface.mk
include tests/fuzz/hosts.mk
include tests/peers/local.mk
include tests/xen/local.mk
include tests/store/local.mk

EXTRA_DIST += tests/interop/run
EXTRA_DIST += tests/services/in-root tests/services/run tests/musl/libraries tests/musl/run
EXTRA_DIST += tests/packages/in-root tests/packages/in-root-rpm tests/packages/run
EXTRA_DIST += tests/integration/reached_by_others tests/reach/places.c tests/reach/places.py tests/reach/run
EXTRA_DIST += tests/mutants/README.md tests/mutants/run tests/mutants/found tests/mutants/client.mutants \
	tests/mutants/gateway.mutants tests/mutants/link.mutants tests/mutants/peers.mutants tests/mutants/policy.mutants \
	tests/mutants/relay.mutants tests/mutants/sim.mutants tests/mutants/topic.mutants tests/mutants/wire.mutants
EXTRA_DIST += tests/packaged/agent tests/packaged/block tests/packaged/cases.py tests/packaged/machines.py tests/packaged/make-debs \
	tests/packaged/make-roots tests/packaged/mirror tests/packaged/run
EXTRA_DIST += tests/model/README.md tests/model/run tests/model/session.pml tests/model/orders tests/model/c11.py \
	tests/model/order/again.litmus tests/model/order/asleep.litmus tests/model/order/bits.litmus tests/model/order/bytes.litmus \
	tests/model/order/cancel.litmus tests/model/order/close.litmus tests/model/order/readers.litmus \
	tests/model/order/storebuffer.litmus tests/model/order/wake.litmus
