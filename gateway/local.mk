# SPDX-License-Identifier: LGPL-2.1-or-later
# The gateway to other hosts, over NATS: what of it needs no network. Of the daemon it has only what reads settings and logs, and none
# of Xen's libraries.
noinst_LTLIBRARIES += libgateway.la
libgateway_la_SOURCES = \
	daemon/base/config.c daemon/base/config.h \
	daemon/base/ini_file.c daemon/base/ini_file.h \
	daemon/base/log.c daemon/base/log.h daemon/base/log_limit.c daemon/base/log_limit.h \
	gateway/conversation.c gateway/conversation.h \
	gateway/message.c gateway/message.h \
	gateway/presence.c gateway/presence.h \
	gateway/settings.c gateway/settings.h
libgateway_la_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS) $(JSONC_CFLAGS) $(INIH_CFLAGS)
libgateway_la_LIBADD = libwire.la libwiregateway.la $(JSONC_LIBS) $(INIH_LIBS)
