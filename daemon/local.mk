# SPDX-License-Identifier: LGPL-2.1-or-later
# The daemon: a library of its parts, so that tests link them, and a small main.
noinst_LTLIBRARIES += libdaemon.la
libdaemon_la_SOURCES = \
	daemon/access.c daemon/access.h \
	daemon/cancel.c daemon/cancel.h \
	daemon/channel.c daemon/channel.h \
	daemon/clock.h \
	daemon/closer.c daemon/closer.h \
	daemon/config.c daemon/config.h \
	daemon/cost.h \
	daemon/daemon.c daemon/daemon.h daemon/daemon_internal.h \
	daemon/denied.c daemon/denied.h \
	daemon/descriptors.c daemon/descriptors.h \
	daemon/directory.c daemon/directory.h daemon/directory_internal.h \
	daemon/directory_believe.c daemon/directory_believe.h \
	daemon/directory_follow.c daemon/directory_follow.h \
	daemon/directory_serve.c daemon/directory_serve.h \
	daemon/hop.c daemon/hop.h daemon/hop_internal.h \
	daemon/hop_input.c \
	daemon/hop_output.c \
	daemon/ini_line.c daemon/ini_line.h \
	daemon/keeper.c daemon/keeper.h \
	daemon/ledger.c daemon/ledger.h \
	daemon/link.c daemon/link.h \
	daemon/local.c daemon/local.h \
	daemon/log.c daemon/log.h daemon/log_limit.c daemon/log_limit.h \
	daemon/notify.c daemon/notify.h \
	daemon/peer_groups.c daemon/peer_groups.h \
	daemon/peers_lookups.c daemon/peers_lookups.h \
	daemon/peers.c daemon/peers.h daemon/peers_internal.h \
	daemon/peers_advertise.c daemon/peers_advertise.h \
	daemon/peers_parse.c daemon/peers_parse.h \
	daemon/peers_presence.c daemon/peers_presence.h \
	daemon/pings.c daemon/patience.h daemon/pings.h \
	daemon/rendezvous.c \
	daemon/policy.c daemon/policy.h daemon/policy_internal.h \
	daemon/policy_read.c \
	daemon/privileges.c daemon/privileges.h \
	daemon/private_ring.h \
	daemon/program_socket.c daemon/program_socket.h \
	daemon/quota.c daemon/quota.h \
	daemon/queries.c daemon/queries.h \
	daemon/relay.c \
	daemon/report.c daemon/report.h \
	daemon/requests.c \
	daemon/restore.c \
	daemon/router.c daemon/router.h \
	daemon/session.c daemon/session.h daemon/session_internal.h daemon/session_memory.c daemon/session_pump.c \
	daemon/singleton.c daemon/singleton.h \
	daemon/startup.c daemon/startup.h \
	daemon/status.c daemon/status.h \
	daemon/store.c daemon/store.h \
	daemon/store_worker.c daemon/store_worker.h \
	daemon/store_write.c daemon/store_write.h \
	daemon/stream.c daemon/stream.h \
	daemon/streams.c daemon/streams.h \
	daemon/timer.h \
	daemon/turns.c daemon/turns.h \
	daemon/vchan.c daemon/vchan.h \
	daemon/vchan_layout.c daemon/vchan_layout.h \
	daemon/viewer.c daemon/viewer.h \
	daemon/watches.c daemon/watches.h
libdaemon_la_CPPFLAGS = $(AM_CPPFLAGS) -DPKGLIBEXECDIR='"$(pkglibexecdir)"'
libdaemon_la_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS) $(XENVCHAN_CFLAGS) $(XENSTORE_CFLAGS) $(JSONC_CFLAGS) $(INIH_CFLAGS)
libdaemon_la_LIBADD = libwire.la $(XENSTORE_LIBS) $(XENGNTTAB_LIBS) $(XENEVTCHN_LIBS) $(LIBEVENT_LIBS) \
	$(LIBEVENT_PTHREADS_LIBS) $(JSONC_LIBS) $(INIH_LIBS) $(SYSTEMD_LIBS)

sbin_PROGRAMS += xenmsgd
xenmsgd_SOURCES = daemon/main.c
xenmsgd_CFLAGS = $(AM_CFLAGS) $(SYSTEMD_CFLAGS)
xenmsgd_LDADD = libdaemon.la

# Holds what mustn't be closed when the daemon ends after a restore: daemon/keeper.h.
pkglibexec_PROGRAMS = xenmsg-keeper
xenmsg_keeper_SOURCES = daemon/keeper_main.c
