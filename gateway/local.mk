# SPDX-License-Identifier: LGPL-2.1-or-later
# The gateway to other hosts, over NATS: a library of its parts, so that tests link them, and a small main. It has none of Xen's
# libraries.
noinst_LIBRARIES += libgateway.a
libgateway_a_SOURCES = \
	gateway/conversation.c gateway/conversation.h \
	gateway/inflow.c gateway/inflow.h \
	gateway/nats_message.c gateway/nats_message.h \
	gateway/presence.c gateway/presence.h \
	gateway/rings.c gateway/rings.h \
	gateway/settings.c gateway/settings.h
libgateway_a_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS) $(INIH_CFLAGS)
gateway_libs = libgateway.a libbase.a $(wiregateway_libs) $(INIH_LIBS)

if ENABLE_NATS
sbin_PROGRAMS += xenmsg-gateway
endif
xenmsg_gateway_SOURCES = \
	gateway/daemon_socket.c gateway/daemon_socket.h \
	gateway/gateway.c gateway/gateway.h gateway/gateway_internal.h \
	gateway/log_host.h \
	gateway/main.c \
	gateway/nats_connection.c gateway/nats_connection.h \
	gateway/nats_options.c gateway/nats_options.h \
	gateway/other_host.c
xenmsg_gateway_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS) $(NATS_CFLAGS)
xenmsg_gateway_LDADD = $(gateway_libs) $(LIBEVENT_LIBS) $(NATS_LIBS)
