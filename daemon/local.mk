# SPDX-License-Identifier: LGPL-2.1-or-later
# The daemon: a library of its parts, so that tests link them, and a small main.
noinst_LIBRARIES += libdaemon.a
libdaemon_a_SOURCES = \
	daemon/policy/access.c daemon/policy/access.h daemon/policy/access_internal.h \
	daemon/policy/access_about.c daemon/policy/access_explain.c daemon/policy/access_host.c \
	daemon/policy/host_policy.c daemon/policy/host_policy.h daemon/policy/host_policy_share.c \
	daemon/policy/host_told.c daemon/policy/host_told.h \
	daemon/activation/activation.c daemon/activation/activation.h \
	daemon/activation/activation_image.c daemon/activation/activation_internal.h \
	daemon/activation/activation_read.c daemon/activation/activation_read.h \
	daemon/activation/activation_step.c daemon/activation/activation_step.h \
	daemon/activation/starter.c daemon/activation/starter.h \
	daemon/activation/units.h \
	daemon/switch/call.c daemon/switch/call.h \
	daemon/switch/inner.h \
	daemon/topic/topics.c daemon/topic/topics.h daemon/topic/topic_internal.h \
	daemon/topic/topic.c daemon/topic/replica.c daemon/topic/meant.c daemon/topic/subscriber.c \
	daemon/topic/topic_ingest.c daemon/topic/listeners.c daemon/topic/subscriptions.c \
	daemon/topic/topic_image.c daemon/topic/topic_log_image.c \
	daemon/topic/topic_bound.c daemon/topic/topic_bound.h \
	daemon/topic/topic_kept.c daemon/topic/topic_kept.h daemon/topic/topic_log.c daemon/topic/topic_log.h \
	daemon/switch/cancel.c daemon/switch/cancel.h \
	daemon/switch/channel.c daemon/switch/channel.h \
	daemon/switch/channel_internal.h daemon/switch/channel_state.c \
	daemon/switch/sharing.c daemon/switch/sharing.h \
	daemon/switch/steps.c daemon/switch/steps.h \
	daemon/switch/reassign.c daemon/switch/reassign.h \
	daemon/registry/changes.c daemon/registry/changes.h \
	daemon/registry/past.c daemon/registry/past.h \
	daemon/registry/registry.c daemon/registry/registry.h \
	daemon/serve/host_watches.c daemon/serve/host_watches.h \
	daemon/switch/work_pool.c daemon/switch/work_pool.h \
	daemon/switch/memfd_lifetimes.c daemon/switch/memfd_lifetimes.h \
	daemon/main/daemon.c daemon/main/daemon.h daemon/main/daemon_internal.h \
	daemon/main/handover.c daemon/main/handover.h \
	daemon/main/handover_take.c \
	daemon/main/invariants.c \
	daemon/main/memory_left.c daemon/main/memory_left.h \
	daemon/main/renewal.c daemon/main/renewal.h \
	daemon/policy/denied.c daemon/policy/denied.h \
	daemon/link/directory.c daemon/link/directory.h \
	daemon/peers/names.c daemon/peers/names.h \
	daemon/peers/domains.c daemon/peers/domains.h \
	daemon/switch/hop.c daemon/switch/hop.h daemon/switch/hop_internal.h daemon/switch/hop_life.h \
	daemon/switch/hop_input.c \
	daemon/switch/hop_image.c daemon/switch/hop_image.h daemon/switch/channel_image.c \
	daemon/hosts/conversation_memory.c daemon/hosts/conversation_memory.h \
	daemon/hosts/gateway_socket.c daemon/hosts/gateway_socket.h \
	daemon/hosts/hosts.c daemon/hosts/hosts.h daemon/hosts/hosts_image.c daemon/hosts/hosts_internal.h \
	daemon/link/shared_carrier.c \
	daemon/serve/inquiries.c daemon/serve/inquiries.h \
	daemon/link/relay_hosts.c daemon/link/relay_internal.h \
	daemon/switch/hop_output.c \
	daemon/xen/keeper.c daemon/xen/keeper.h \
	daemon/switch/latency.h \
	daemon/switch/ledger.c daemon/switch/ledger.h \
	daemon/switch/orphans.c daemon/switch/orphans.h \
	daemon/switch/outlet.c daemon/switch/outlet.h \
	daemon/switch/part.h \
	daemon/switch/refused.h \
	daemon/switch/control.c \
	daemon/switch/traits.h \
	daemon/link/link.c daemon/link/link.h daemon/link/link_internal.h \
	daemon/link/links.c \
	daemon/link/link_away.c \
	daemon/link/link_move.c \
	daemon/link/elastic.h \
	daemon/link/link_control.c daemon/link/link_image.c \
	daemon/link/link_registry.c \
	daemon/link/link_greet.c \
	daemon/link/link_claim.c \
	daemon/link/auth_tag.c daemon/link/auth_tag.h \
	daemon/link/resume_step.c daemon/link/resume_step.h \
	daemon/link/carrier.h \
	daemon/link/relay.c daemon/link/relay.h \
	daemon/link/vchan_carrier.c \
	daemon/link/vchan_maker.c \
	daemon/local/local.c daemon/local/local.h \
	daemon/local/session_image.c \
	daemon/peers/peers_lookups.c \
	daemon/peers/peer.c \
	daemon/peers/peers.c daemon/peers/peers.h daemon/peers/peers_internal.h \
	daemon/peers/peers_advertise.c \
	daemon/peers/peers_all.c \
	daemon/peers/peers_parse.c daemon/peers/peers_parse.h \
	daemon/peers/peers_leaves.c \
	daemon/peers/peers_repair.c \
	daemon/peers/peers_presence.c \
	daemon/peers/peers_tell.c daemon/peers/peers_tell.h \
	daemon/link/pings.c daemon/link/busy_poll.h daemon/link/pings.h \
	daemon/peers/rendezvous.c daemon/peers/rendezvous_hello.c \
	daemon/peers/rendezvous_rings.c daemon/peers/rendezvous_step.c daemon/peers/rendezvous_step.h \
	daemon/policy/policy.c daemon/policy/policy.h daemon/policy/policy_internal.h \
	daemon/policy/policy_items.c \
	daemon/policy/policy_read.c \
	daemon/switch/private_ring.h \
	daemon/switch/program_socket.c daemon/switch/program_socket.h \
	daemon/serve/tracers.c daemon/serve/tracers.h \
	daemon/serve/questions.c daemon/serve/questions.h \
	daemon/switch/switch.c \
	daemon/main/reload.c \
	daemon/serve/report.c daemon/serve/report.h \
	daemon/main/review.c daemon/main/review.h \
	daemon/serve/requests.c daemon/serve/requests.h daemon/serve/requests_answer.c daemon/serve/requests_internal.h \
	daemon/main/restore.c \
	daemon/serve/router.c daemon/serve/router.h daemon/serve/router_channels.c daemon/serve/router_image.c daemon/serve/router_internal.h \
	daemon/local/session.c daemon/local/session.h daemon/local/session_internal.h daemon/local/session_greeting.c daemon/local/session_memory.c daemon/local/session_pump.c \
	daemon/xen/singleton.c daemon/xen/singleton.h \
	daemon/main/startup.c daemon/main/startup.h \
	daemon/serve/status.c daemon/serve/status.h \
	daemon/serve/status_accounts.c daemon/serve/status_head.c daemon/serve/status_hosts.c \
	daemon/serve/status_policy.c daemon/serve/status_streams.c daemon/serve/status_topics.c \
	daemon/serve/status_json.h \
	daemon/xen/store.c daemon/xen/store.h \
	daemon/xen/store_watched.c daemon/xen/store_worker.c daemon/xen/store_worker.h daemon/xen/store_worker_internal.h \
	daemon/xen/store_write.c \
	daemon/local/stream.c daemon/local/stream.h daemon/local/stream_internal.h daemon/local/stream_socket.c \
	daemon/local/stream_image.c daemon/local/streams_image.c daemon/local/streams_internal.h \
	daemon/local/streams.c daemon/local/streams.h \
	daemon/xen/vchan.c daemon/xen/vchan.h daemon/xen/vchan_host.c \
	daemon/xen/vchan_internal.h daemon/xen/vchan_kept.c \
	daemon/serve/viewer.c daemon/serve/viewer.h \
	daemon/main/wiring.c daemon/main/wiring_links.c daemon/main/wiring_peers.c \
	daemon/serve/watches.c daemon/serve/watches.h daemon/serve/watches_internal.h

if WITH_SYSTEMD
libdaemon_a_SOURCES += daemon/activation/units.c daemon/activation/units_module.h
# What of it needs libsystemd is loaded when a unit is started.
systemdmoduledir = $(pkglibexecdir)
systemdmodule_LTLIBRARIES = xenmsgd-systemd.la
xenmsgd_systemd_la_SOURCES = daemon/activation/units_restart.c daemon/activation/units_systemd.c
# Named so that the objects of a test are others.
xenmsgd_systemd_la_CFLAGS = $(AM_CFLAGS)
xenmsgd_systemd_la_LIBADD = $(LIBEVENT_LIBS) $(SYSTEMD_LIBS)
xenmsgd_systemd_la_LDFLAGS = -module -avoid-version -shared -Wl,-Bsymbolic
else
libdaemon_a_SOURCES += daemon/activation/units_none.c
endif
libdaemon_a_CPPFLAGS = $(AM_CPPFLAGS) -DPKGLIBEXECDIR='"$(pkglibexecdir)"'
daemon_libs = libdaemon.a libbase.a $(wiregateway_libs) $(XENSTORE_LIBS) $(XENGNTTAB_LIBS) $(XENEVTCHN_LIBS) $(LIBEVENT_LIBS) \
	$(LIBEVENT_PTHREADS_LIBS) $(INIH_LIBS) $(NETTLE_LIBS)

sbin_PROGRAMS += xenmsgd
xenmsgd_SOURCES = daemon/main/main.c
xenmsgd_LDADD = $(daemon_libs)

# Holds what mustn't be closed when the daemon ends after a restore: daemon/xen/keeper.h.
pkglibexec_PROGRAMS = xenmsg-keeper
xenmsg_keeper_SOURCES = daemon/xen/keeper_main.c
xenmsg_keeper_LDADD =
