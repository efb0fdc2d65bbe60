# SPDX-License-Identifier: LGPL-2.1-or-later
# xensim's XenStore server: a library that the hypervisor process embeds.
noinst_LTLIBRARIES += libsimstore.la
libsimstore_la_SOURCES = \
	sim/store.c sim/store.h sim/store_internal.h \
	sim/store_connection.c \
	sim/store_request.c sim/store_request.h \
	sim/store_transaction.c \
	sim/store_tree.c sim/store_tree.h \
	sim/store_watch.c \
	sim/store_wire.c sim/store_wire.h
libsimstore_la_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS)
libsimstore_la_LIBADD = $(LIBEVENT_LIBS)

if HAVE_CMOCKA
sim_store_tests = sim/store_unit_tree
check_PROGRAMS += $(sim_store_tests)
TESTS += $(sim_store_tests)
sim_store_fixture = sim/store_unit.c sim/store_unit.h
sim_store_test_libs = libsimstore.la $(LIBEVENT_LIBS) $(CMOCKA_LIBS)

sim_store_unit_tree_SOURCES = sim/store_unit_tree.c $(sim_store_fixture)
sim_store_unit_tree_CFLAGS = $(UNIT_CFLAGS) $(LIBEVENT_CFLAGS)
sim_store_unit_tree_LDADD = $(sim_store_test_libs)
endif
