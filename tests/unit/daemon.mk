# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of the relay: hops and channels with a party at every other end, and what stands around them.
fake_store = tests/unit/fake_store.c tests/unit/fake_store.h
hop_rig = tests/unit/hop_rig.c tests/unit/hop_party.c tests/unit/hop_flow.c tests/unit/hop_rig.h \
	tests/unit/random.h
if HAVE_CMOCKA
unit_tests += \
	tests/unit/test_activation \
	tests/unit/test_activation_step \
	tests/unit/test_cancel \
	tests/unit/test_withdraw \
	tests/unit/test_channel \
	tests/unit/test_channel_loss \
	tests/unit/test_channel_room \
	tests/unit/test_orphans \
	tests/unit/test_denied \
	tests/unit/test_directory_told \
	tests/unit/test_directory_believed \
	tests/unit/test_fairness \
	tests/unit/test_hop_life \
	tests/unit/test_hop \
	tests/unit/test_hop_hostile \
	tests/unit/test_hop_notifications \
	tests/unit/test_hop_small \
	tests/unit/test_hop_wakeup \
	tests/unit/test_host_watches \
	tests/unit/test_hosts \
	tests/unit/test_hosts_image \
	tests/unit/test_image \
	tests/unit/test_stream_image \
	tests/unit/test_ledger \
	tests/unit/test_topic_bound \
	tests/unit/test_topic_ends \
	tests/unit/test_topic_given \
	tests/unit/test_topic_image \
	tests/unit/test_topic_kept \
	tests/unit/test_topic_log \
	tests/unit/test_topic_waiting \
	tests/unit/test_outlet \
	tests/unit/test_link_handshake \
	tests/unit/test_link_violations \
	tests/unit/test_link_pings \
	tests/unit/test_link_loss \
	tests/unit/test_link_many \
	tests/unit/test_link_away \
	tests/unit/test_link_heartbeat \
	tests/unit/test_link_idle \
	tests/unit/test_link_polling \
	tests/unit/test_link_orders \
	tests/unit/test_link_resume \
	tests/unit/test_link_resume_lies \
	tests/unit/test_link_restored \
	tests/unit/test_link_claim \
	tests/unit/test_link_tags \
	tests/unit/test_link_move \
	tests/unit/test_link_elastic \
	tests/unit/test_log \
	tests/unit/test_memory_lives \
	tests/unit/test_errands \
	tests/unit/test_peer_groups \
	tests/unit/test_log_limit \
	tests/unit/test_program_socket \
	tests/unit/test_pings \
	tests/unit/test_rendezvous \
	tests/unit/test_rendezvous_step \
	tests/unit/test_resume \
	tests/unit/test_resume_step \
	tests/unit/test_router_names \
	tests/unit/test_router_addresses \
	tests/unit/test_router_access \
	tests/unit/test_router_shared \
	tests/unit/test_session \
	tests/unit/test_shared_transport \
	tests/unit/test_keeper \
	tests/unit/test_singleton \
	tests/unit/test_stream_calls \
	tests/unit/test_stream_bytes \
	tests/unit/test_stream_ends \
	tests/unit/test_restore_clock \
	tests/unit/test_turns \
	tests/unit/test_call \
	tests/unit/test_vchan \
	tests/unit/test_asks \
	tests/unit/test_via \
	tests/unit/test_watches \
	tests/unit/test_watches_image \
	tests/unit/test_watches_late
if WITH_SYSTEMD
unit_tests += tests/unit/test_units
endif
endif

hop_programs = tests/unit/hop_programs.c tests/unit/hop_programs.h $(hop_rig)

tests_unit_test_hop_SOURCES = tests/unit/test_hop.c $(hop_programs)
tests_unit_test_hop_hostile_SOURCES = tests/unit/test_hop_hostile.c $(hop_programs)
tests_unit_test_hop_notifications_SOURCES = tests/unit/test_hop_notifications.c $(hop_programs)
tests_unit_test_hop_small_SOURCES = tests/unit/test_hop_small.c $(hop_programs)

# Has the relay compiled into it, with steps in place of the atomic operations.
tests_unit_test_hop_wakeup_SOURCES = tests/unit/test_hop_wakeup.c tests/unit/interleave.h

channel_rig = tests/unit/channel_rig.c tests/unit/channel_rig.h $(hop_rig)

tests_unit_test_channel_SOURCES = tests/unit/test_channel.c $(channel_rig)
tests_unit_test_withdraw_SOURCES = tests/unit/test_withdraw.c $(channel_rig)
tests_unit_test_orphans_SOURCES = tests/unit/test_orphans.c $(channel_rig)
tests_unit_test_channel_loss_SOURCES = tests/unit/test_channel_loss.c $(channel_rig)

tests_unit_test_channel_room_SOURCES = tests/unit/test_channel_room.c $(hop_rig)
tests_unit_test_cancel_SOURCES = tests/unit/test_cancel.c $(hop_rig)
tests_unit_test_fairness_SOURCES = tests/unit/test_fairness.c $(hop_rig)

# Has sessions, streams, links, peers, a directory, policy and watches of its own.
router_rig = tests/unit/router_rig.c tests/unit/router_rig.h $(hop_rig)

tests_unit_test_router_names_SOURCES = tests/unit/test_router_names.c $(router_rig)
tests_unit_test_router_addresses_SOURCES = tests/unit/test_router_addresses.c $(router_rig)

tests_unit_test_asks_SOURCES = tests/unit/test_asks.c tests/unit/asks_rig.c tests/unit/asks_rig.h

tests_unit_test_via_SOURCES = tests/unit/test_via.c tests/unit/via_rig.c tests/unit/via_rig.h $(hop_rig)

tests_unit_test_router_shared_SOURCES = tests/unit/test_router_shared.c $(router_rig)
tests_unit_test_router_access_SOURCES = tests/unit/test_router_access.c $(router_rig)
tests_unit_test_activation_SOURCES = tests/unit/test_activation.c tests/unit/image_bytes.h $(router_rig)

tests_unit_test_program_socket_SOURCES = tests/descriptors.h tests/unit/test_program_socket.c \
	tests/unit/own_process.h

tests_unit_test_hosts_SOURCES = tests/descriptors.h tests/unit/test_hosts.c tests/unit/own_process.h

tests_unit_test_host_watches_SOURCES = tests/unit/test_host_watches.c tests/unit/image_bytes.h
tests_unit_test_hosts_image_SOURCES = tests/unit/test_hosts_image.c tests/unit/image_bytes.h

tests_unit_test_shared_transport_SOURCES = tests/descriptors.h tests/unit/test_shared_transport.c \
	tests/unit/own_process.h

tests_unit_test_memory_lives_SOURCES = tests/unit/test_memory_lives.c tests/unit/own_process.h
tests_unit_test_errands_SOURCES = tests/unit/test_errands.c tests/unit/own_process.h
tests_unit_test_session_SOURCES = tests/descriptors.h tests/unit/test_session.c tests/unit/own_process.h

stream_rig = tests/unit/stream_rig.c tests/unit/stream_rig.h $(hop_rig)

tests_unit_test_stream_image_SOURCES = tests/unit/test_stream_image.c tests/unit/image_bytes.h $(stream_rig)
tests_unit_test_image_SOURCES = tests/unit/test_image.c tests/unit/image_bytes.h
topic_rig = tests/unit/topic_rig.c tests/unit/topic_rig.h
tests_unit_test_topic_ends_SOURCES = tests/unit/test_topic_ends.c $(topic_rig)
tests_unit_test_topic_image_SOURCES = tests/unit/test_topic_image.c tests/unit/image_bytes.h $(topic_rig)
tests_unit_test_stream_calls_SOURCES = tests/unit/test_stream_calls.c $(stream_rig)
tests_unit_test_stream_bytes_SOURCES = tests/unit/test_stream_bytes.c $(stream_rig)

tests_unit_test_stream_ends_SOURCES = tests/descriptors.h tests/unit/test_stream_ends.c $(stream_rig)

tests_unit_test_ledger_SOURCES = tests/unit/test_ledger.c tests/unit/random.h
tests_unit_test_topic_bound_SOURCES = tests/unit/test_topic_bound.c tests/unit/random.h tests/unit/topic_log_more.h
tests_unit_test_topic_kept_SOURCES = tests/unit/test_topic_kept.c tests/unit/random.h
tests_unit_test_topic_log_SOURCES = tests/unit/test_topic_log.c tests/unit/random.h tests/unit/topic_log_more.h
tests_unit_test_outlet_SOURCES = tests/unit/test_outlet.c tests/unit/random.h

# Has sessions of its own in place of daemon/local/session.c and what sends to them.
watches_rig = tests/unit/watches_rig.c tests/unit/watches_rig.h

tests_unit_test_watches_SOURCES = tests/unit/test_watches.c $(watches_rig)
tests_unit_test_watches_image_SOURCES = tests/unit/test_watches_image.c $(watches_rig)
tests_unit_test_watches_late_SOURCES = tests/unit/test_watches_late.c $(watches_rig)

# Has vchans, peers and a directory of its own.
link_rig = tests/unit/link_rig.c tests/unit/link_rig.h

tests_unit_test_link_handshake_SOURCES = tests/unit/test_link_handshake.c $(link_rig)
tests_unit_test_link_violations_SOURCES = tests/unit/test_link_violations.c $(link_rig)
tests_unit_test_link_pings_SOURCES = tests/unit/test_link_pings.c $(link_rig)
tests_unit_test_link_loss_SOURCES = tests/unit/test_link_loss.c $(link_rig)
tests_unit_test_link_heartbeat_SOURCES = tests/unit/test_link_heartbeat.c $(link_rig)

resume_rig = tests/unit/resume_rig.c tests/unit/resume_rig.h $(link_rig)

tests_unit_test_link_idle_SOURCES = tests/unit/test_link_idle.c $(resume_rig)
tests_unit_test_link_resume_SOURCES = tests/unit/test_link_resume.c $(resume_rig)
tests_unit_test_link_resume_lies_SOURCES = tests/unit/test_link_resume_lies.c $(resume_rig)
tests_unit_test_link_restored_SOURCES = tests/unit/test_link_restored.c $(resume_rig)
tests_unit_test_link_tags_SOURCES = tests/unit/test_link_tags.c $(resume_rig)
tests_unit_test_link_claim_SOURCES = tests/unit/test_link_claim.c $(resume_rig)
tests_unit_test_link_away_SOURCES = tests/unit/test_link_away.c $(resume_rig)
tests_unit_test_link_many_SOURCES = tests/unit/test_link_many.c $(resume_rig)

move_rig = tests/unit/move_rig.c tests/unit/move_rig.h $(resume_rig)

tests_unit_test_link_elastic_SOURCES = tests/unit/test_link_elastic.c $(move_rig)
tests_unit_test_link_move_SOURCES = tests/unit/test_link_move.c $(move_rig)

tests_unit_test_link_orders_SOURCES = tests/unit/test_link_orders.c $(link_rig)
tests_unit_test_link_polling_SOURCES = tests/unit/test_link_polling.c $(link_rig)

# Has a XenStore of its own in place of daemon/xen/store.c, and a policy.
directory_rig = tests/unit/directory_rig.c tests/unit/directory_rig.h tests/unit/no_host_policy.c $(fake_store)

tests_unit_test_directory_told_SOURCES = tests/unit/test_directory_told.c $(directory_rig)
tests_unit_test_directory_believed_SOURCES = tests/unit/test_directory_believed.c $(directory_rig)

# Has a XenStore, vchans and a policy of its own.
tests_unit_test_rendezvous_SOURCES = tests/unit/test_rendezvous.c \
	tests/unit/rendezvous_rig.c tests/unit/rendezvous_rig.h $(fake_store)

tests_unit_test_resume_SOURCES = tests/unit/test_resume.c $(hop_programs)
