# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of the daemon: of the switch, hops and channels with a party at every other end; of what stands around it; of what is read
# from other domains; of policy and limits. Those of links are a group of their own.
daemon_tests = \
	tests/unit/test_access \
	tests/unit/test_activation \
	tests/unit/test_activation_step \
	tests/unit/test_call \
	tests/unit/test_carried_memory \
	tests/unit/test_cancel \
	tests/unit/test_fd_parcel \
	tests/unit/test_memory_left \
	tests/unit/test_channel \
	tests/unit/test_channel_loss \
	tests/unit/test_channel_room \
	tests/unit/test_config \
	tests/unit/test_denied \
	tests/unit/test_directory_believed \
	tests/unit/test_directory_told \
	tests/unit/test_work_pool \
	tests/unit/test_fairness \
	tests/unit/test_hop \
	tests/unit/test_hop_hostile \
	tests/unit/test_hop_life \
	tests/unit/test_hop_notifications \
	tests/unit/test_hop_small \
	tests/unit/test_hop_wakeup \
	tests/unit/test_host_watches \
	tests/unit/test_hosts \
	tests/unit/test_hosts_image \
	tests/unit/test_image \
	tests/unit/test_inquiries \
	tests/unit/test_keeper \
	tests/unit/test_ledger \
	tests/unit/test_log \
	tests/unit/test_log_limit \
	tests/unit/test_memfd_lifetimes \
	tests/unit/test_orphans \
	tests/unit/test_outlet \
	tests/unit/test_peer_groups \
	tests/unit/test_peers_parse \
	tests/unit/test_pings \
	tests/unit/test_policy \
	tests/unit/test_policy_mistakes \
	tests/unit/test_policy_who \
	tests/unit/test_program_socket \
	tests/unit/test_quota \
	tests/unit/test_rendezvous \
	tests/unit/test_rendezvous_step \
	tests/unit/test_restore_clock \
	tests/unit/test_resume \
	tests/unit/test_resume_step \
	tests/unit/test_review \
	tests/unit/test_router_access \
	tests/unit/test_router_addresses \
	tests/unit/test_router_names \
	tests/unit/test_router_shared \
	tests/unit/test_session \
	tests/unit/test_shared_carrier \
	tests/unit/test_singleton \
	tests/unit/test_store_turns \
	tests/unit/test_store_watched \
	tests/unit/test_store_worker \
	tests/unit/test_stream_bytes \
	tests/unit/test_stream_calls \
	tests/unit/test_stream_ends \
	tests/unit/test_stream_image \
	tests/unit/test_told_image \
	tests/unit/test_topic_bound \
	tests/unit/test_topic_ends \
	tests/unit/test_topic_given \
	tests/unit/test_topic_image \
	tests/unit/test_topic_kept \
	tests/unit/test_topic_log \
	tests/unit/test_topic_waiting \
	tests/unit/test_turns \
	tests/unit/test_vchan \
	tests/unit/test_relay \
	tests/unit/test_watches \
	tests/unit/test_watches_late \
	tests/unit/test_withdraw
if WITH_SYSTEMD
daemon_tests += tests/unit/test_service tests/unit/test_units
endif
link_tests = \
	tests/unit/test_link_away \
	tests/unit/test_link_claim \
	tests/unit/test_link_elastic \
	tests/unit/test_link_handshake \
	tests/unit/test_link_heartbeat \
	tests/unit/test_link_idle \
	tests/unit/test_link_loss \
	tests/unit/test_link_many \
	tests/unit/test_link_move \
	tests/unit/test_link_orders \
	tests/unit/test_link_pings \
	tests/unit/test_link_polling \
	tests/unit/test_link_restored \
	tests/unit/test_link_resume \
	tests/unit/test_link_resume_lies \
	tests/unit/test_link_tags \
	tests/unit/test_link_violations
unit_tests += $(daemon_tests) $(link_tests)

# What stands in for nothing of the daemon. All tests can have it.
unit_rigs += libdaemonrig.a
libdaemonrig_a_SOURCES = \
	tests/unit/hop_flow.c \
	tests/unit/hop_party.c \
	tests/unit/hop_programs.c tests/unit/hop_programs.h \
	tests/unit/hop_rig.c tests/unit/hop_rig.h \
	tests/unit/topic_rig.c tests/unit/topic_rig.h
daemon_test_libs = libdaemonrig.a $(daemon_libs)
$(daemon_tests): private libraries = $(daemon_test_libs)
$(daemon_tests): $(filter %.a,$(daemon_test_libs))

# Has vchans, peers and a directory of its own.
unit_rigs += liblinkrig.a
liblinkrig_a_SOURCES = \
	tests/unit/link_rig.c tests/unit/link_rig.h \
	tests/unit/move_rig.c tests/unit/move_rig.h \
	tests/unit/resume_rig.c tests/unit/resume_rig.h
link_test_libs = liblinkrig.a $(daemon_libs)
$(link_tests): private libraries = $(link_test_libs)
$(link_tests): $(filter %.a,$(link_test_libs))

channel_rig = tests/unit/channel_rig.c tests/unit/channel_rig.h
tests_unit_test_channel_SOURCES = tests/unit/test_channel.c $(channel_rig)
tests_unit_test_channel_loss_SOURCES = tests/unit/test_channel_loss.c $(channel_rig)
tests_unit_test_orphans_SOURCES = tests/unit/test_orphans.c $(channel_rig)
tests_unit_test_review_SOURCES = tests/unit/test_review.c $(channel_rig)
tests_unit_test_withdraw_SOURCES = tests/unit/test_withdraw.c $(channel_rig)
if WITH_SYSTEMD
tests_unit_test_units_SOURCES = tests/unit/test_units.c daemon/activation/units_systemd.c
units_test = tests/unit/test_units
$(units_test): private libraries = $(daemon_test_libs) $(SYSTEMD_LIBS)
endif

# Has sessions, streams, links, peers, a directory, policy and watches of its own.
router_rig = tests/unit/router_rig.c tests/unit/router_rig.h
tests_unit_test_activation_SOURCES = tests/unit/test_activation.c $(router_rig)
tests_unit_test_router_access_SOURCES = tests/unit/test_router_access.c $(router_rig)
tests_unit_test_router_addresses_SOURCES = tests/unit/test_router_addresses.c $(router_rig)
tests_unit_test_router_names_SOURCES = tests/unit/test_router_names.c $(router_rig)
tests_unit_test_router_shared_SOURCES = tests/unit/test_router_shared.c $(router_rig)

tests_unit_test_relay_SOURCES = tests/unit/test_relay.c tests/unit/relay_rig.c tests/unit/relay_rig.h

stream_rig = tests/unit/stream_rig.c tests/unit/stream_rig.h
tests_unit_test_stream_bytes_SOURCES = tests/unit/test_stream_bytes.c $(stream_rig)
tests_unit_test_stream_calls_SOURCES = tests/unit/test_stream_calls.c $(stream_rig)
tests_unit_test_stream_ends_SOURCES = tests/unit/test_stream_ends.c $(stream_rig)
tests_unit_test_stream_image_SOURCES = tests/unit/test_stream_image.c $(stream_rig)

# Has sessions of its own in place of daemon/local/session.c and what sends to them.
watches_rig = tests/unit/watches_rig.c tests/unit/watches_rig.h
tests_unit_test_host_watches_SOURCES = tests/unit/test_host_watches.c $(watches_rig)
tests_unit_test_watches_SOURCES = tests/unit/test_watches.c $(watches_rig)
tests_unit_test_watches_late_SOURCES = tests/unit/test_watches_late.c $(watches_rig)

# Has a XenStore of its own in place of daemon/xen/store.c, and a policy.
fake_store = tests/unit/fake_store.c tests/unit/fake_store.h
directory_rig = tests/unit/directory_rig.c tests/unit/directory_rig.h tests/unit/no_host_policy.c $(fake_store)
tests_unit_test_directory_told_SOURCES = tests/unit/test_directory_told.c $(directory_rig)
tests_unit_test_directory_believed_SOURCES = tests/unit/test_directory_believed.c $(directory_rig)

# Has a XenStore, vchans and a policy of its own.
tests_unit_test_rendezvous_SOURCES = tests/unit/test_rendezvous.c \
	tests/unit/rendezvous_rig.c tests/unit/rendezvous_rig.h $(fake_store)

policy_rig = tests/unit/policy_rig.c tests/unit/policy_rig.h
tests_unit_test_access_SOURCES = tests/unit/test_access.c $(policy_rig)
tests_unit_test_policy_SOURCES = tests/unit/test_policy.c $(policy_rig)
tests_unit_test_policy_mistakes_SOURCES = tests/unit/test_policy_mistakes.c $(policy_rig)
tests_unit_test_policy_who_SOURCES = tests/unit/test_policy_who.c $(policy_rig)
