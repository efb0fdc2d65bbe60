# SPDX-License-Identifier: LGPL-2.1-or-later
# libxenmsg. Its parts are a library of their own too, so that tests reach what the shared one doesn't export.
include_HEADERS += include/xenmsg.h include/xenmsg-mux.h
pkgconfig_DATA += libclient/xenmsg.pc
cmakedir = $(libdir)/cmake/xenmsg
cmake_DATA = libclient/xenmsg-config.cmake libclient/xenmsg-config-version.cmake
EXTRA_DIST += libclient/libxenmsg.map

noinst_LTLIBRARIES += libclient.la
libclient_la_SOURCES = \
	libclient/again.c libclient/again.h \
	libclient/api_calls.c \
	libclient/api_messages.c \
	libclient/api_open.c \
	libclient/api_queries.c \
	libclient/api_streams.c \
	libclient/assembly.c libclient/assembly.h \
	libclient/calls.c libclient/calls.h \
	libclient/conn.c libclient/conn.h \
	libclient/deadline.h \
	libclient/dial.c libclient/dial.h \
	libclient/fifo.c libclient/fifo.h \
	libclient/hash.h \
	libclient/handshake.c libclient/handshake.h \
	libclient/inbox.c libclient/inbox.h \
	libclient/incoming.c libclient/incoming.h \
	libclient/message.c libclient/message.h \
	libclient/op.c libclient/op.h \
	libclient/origin.c libclient/origin.h \
	libclient/outbox.c libclient/outbox.h \
	libclient/pieces.h \
	libclient/socket_pump.c libclient/socket_pump.h \
	libclient/replies.c libclient/replies.h \
	libclient/requests.c libclient/requests.h \
	libclient/sender.c libclient/sender.h \
	libclient/trace.c libclient/trace.h \
	libclient/transport.c libclient/transport.h \
	libclient/wait.c libclient/wait.h \
	libclient/mirror.c libclient/mirror.h \
	libclient/mux.c \
	libclient/mux_stream.c libclient/mux_stream.h
libclient_la_LIBADD = libwire.la

lib_LTLIBRARIES += libxenmsg.la
libxenmsg_la_SOURCES =
libxenmsg_la_LIBADD = libclient.la
libxenmsg_la_LDFLAGS = -version-info $(XENMSG_LT_VERSION) -no-undefined \
	-Wl,--version-script=$(top_srcdir)/libclient/libxenmsg.map
libxenmsg_la_DEPENDENCIES = libclient.la libclient/libxenmsg.map
