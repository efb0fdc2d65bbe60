# SPDX-License-Identifier: LGPL-2.1-or-later
# libxenmsg. Its parts are a library of their own too, so that tests reach what the shared one doesn't export.
include_HEADERS += include/xenmsg.h
pkgconfig_DATA += libclient/xenmsg.pc
EXTRA_DIST += libclient/libxenmsg.map

noinst_LTLIBRARIES += libclient.la
libclient_la_SOURCES = \
	libclient/call.c libclient/call.h \
	libclient/channel.c libclient/channel.h \
	libclient/conn.c libclient/conn.h \
	libclient/connect.c \
	libclient/fifo.c libclient/fifo.h \
	libclient/hop.c libclient/hop.h \
	libclient/inbox.c libclient/inbox.h \
	libclient/message.c libclient/message.h \
	libclient/outbox.c libclient/outbox.h \
	libclient/pieces.h \
	libclient/reply.c libclient/reply.h \
	libclient/request.c \
	libclient/stream.c libclient/stream.h \
	libclient/transfer.c
libclient_la_LIBADD = libwire.la

lib_LTLIBRARIES += libxenmsg.la
libxenmsg_la_SOURCES =
libxenmsg_la_LIBADD = libclient.la
libxenmsg_la_LDFLAGS = -version-info $(XENMSG_LT_VERSION) -no-undefined \
	-Wl,--version-script=$(top_srcdir)/libclient/libxenmsg.map
libxenmsg_la_DEPENDENCIES = libclient.la libclient/libxenmsg.map
