# SPDX-License-Identifier: LGPL-2.1-or-later
# Examples compile in every build, so that they stay true, and are installed as sources.
check_PROGRAMS += examples/ping examples/loop examples/blocks examples/chat examples/copy examples/kv examples/mirror examples/rendezvous \
	examples/request-reply examples/agent examples/busy examples/deadline examples/prepare-save \
	examples/proxy
examples_agent_SOURCES = examples/agent.c
examples_agent_LDADD = libxenmsg.la
examples_busy_SOURCES = examples/busy.c
examples_busy_LDADD = libxenmsg.la
examples_deadline_SOURCES = examples/deadline.c
examples_deadline_LDADD = libxenmsg.la
examples_deadline_LDFLAGS = -no-install
examples_prepare_save_SOURCES = examples/prepare-save.c
examples_prepare_save_LDADD = libxenmsg.la
examples_prepare_save_LDFLAGS = -no-install
examples_proxy_SOURCES = examples/proxy.c
examples_proxy_LDADD = libxenmsg.la
examples_ping_SOURCES = examples/ping.c
examples_ping_LDADD = libxenmsg.la
# Run by tests in simulated domains, so without libtool's wrappers.
examples_blocks_SOURCES = examples/blocks.c
examples_blocks_LDADD = libxenmsg.la
examples_blocks_LDFLAGS = -no-install
examples_loop_SOURCES = examples/libevent.c
examples_loop_LDADD = libxenmsg.la $(LIBEVENT_LIBS)
examples_chat_SOURCES = examples/chat.c
examples_chat_LDADD = libxenmsg.la
examples_copy_SOURCES = examples/copy.c
examples_copy_LDADD = libxenmsg.la
examples_mirror_SOURCES = examples/mirror.c
examples_mirror_LDADD = libxenmsg.la
examples_rendezvous_SOURCES = examples/rendezvous.c
examples_rendezvous_LDADD = libxenmsg.la
if WITH_SYSTEMD
check_PROGRAMS += examples/sdevent
examples_sdevent_SOURCES = examples/sdevent.c
examples_sdevent_LDADD = libxenmsg.la $(SYSTEMD_LIBS)
endif
# Run by tests in simulated domains, so without libtool's wrappers.
examples_request_reply_SOURCES = examples/request-reply.c
examples_request_reply_LDADD = libxenmsg.la
examples_request_reply_LDFLAGS = -no-install
examples_kv_SOURCES = examples/kv.c
examples_kv_LDADD = libxenmsg.la
examples_kv_LDFLAGS = -no-install
if HAVE_GLIB
check_PROGRAMS += examples/glib
examples_glib_SOURCES = examples/glib.c
examples_glib_CFLAGS = $(AM_CFLAGS) $(GLIB_CFLAGS)
examples_glib_LDADD = libxenmsg.la $(GLIB_LIBS)
endif
if HAVE_LIBUV
check_PROGRAMS += examples/libuv
examples_libuv_SOURCES = examples/libuv.c
examples_libuv_CFLAGS = $(AM_CFLAGS) $(LIBUV_CFLAGS)
examples_libuv_LDADD = libxenmsg.la $(LIBUV_LIBS)
endif

dist_example_DATA += \
	examples/agent.c \
	examples/blocks.c \
	examples/busy.c \
	examples/chat.c \
	examples/copy.c \
	examples/deadline.c \
	examples/glib.c \
	examples/kv.c \
	examples/libevent.c \
	examples/libuv.c \
	examples/mirror.c \
	examples/ping.c \
	examples/prepare-save.c \
	examples/proxy.c \
	examples/rendezvous.c \
	examples/request-reply.c \
	examples/sdevent.c
natsexampledir = $(exampledir)/nats
dist_natsexample_DATA = examples/nats/nats-server.conf
dist_example_SCRIPTS += examples/chat.sh examples/kv.sh examples/libvirt-hook.py examples/loop.py examples/prepare-save.sh examples/rendezvous.sh examples/request-reply.py \
	examples/request-reply.sh examples/xl-tags.sh
