# SPDX-License-Identifier: LGPL-2.1-or-later
# xensim: the command, with the hypervisor process in it, and the library that it preloads into domains. It stands in for calls of
# glibc, by their names there.
if GLIBC
bin_PROGRAMS += xensim
pkglib_LTLIBRARIES += libxensim.la libxensim-trace.la
dist_man_MANS += doc/xensim.1
endif
xensim_SOURCES = \
	sim/evtchn_page.h sim/proto.h \
	sim/command.h \
	sim/command_ask.c \
	sim/command_exec.c \
	sim/command_help.c \
	sim/command_record.c sim/record_alike.c sim/record_alike.h \
	sim/command_trace.c \
	sim/command_start.c \
	sim/hv.h \
	sim/hv_admin.c sim/hv_admin.h sim/hv_admin_save.c \
	sim/device.c sim/device.h sim/device_store.c sim/device_store.h \
	sim/hv_call.c \
	sim/hv_client.c \
	sim/hv_device.c \
	sim/hv_domain.c \
	sim/hv_evtchn.c \
	sim/hv_fault.c \
	sim/hv_grant.c sim/hv_grant_save.c sim/hv_map.c sim/hv_frame.c \
	sim/hv_home.c \
	sim/hv_libxl.c \
	sim/hv_life.c \
	sim/hv_main.c \
	sim/hv_order.c \
	sim/hv_orphan.c \
	sim/hv_process.c \
	sim/hv_rest.c \
	sim/hv_record.c sim/record_text.h \
	sim/hv_report.c \
	sim/hv_save.c \
	sim/static.c sim/static.h \
	sim/xen_path.h \
	sim/xensim.c
# What may be meant is told as the command xenmsg tells it.
xensim_SOURCES += cli/nearest.c cli/nearest.h
xensim_CPPFLAGS = $(AM_CPPFLAGS) -DPKGLIBDIR='"$(pkglibdir)"' -DSBINDIR='"$(sbindir)"'
xensim_LDADD = $(simstore_libs) $(JSONC_LIBS)

libxensim_la_SOURCES = \
	sim/evtchn_page.h sim/proto.h \
	sim/lib.h \
	sim/lib_call.c \
	sim/lib_clock.c \
	sim/lib_conn.c \
	sim/lib_device.c sim/lib_device.h sim/lib_device_gnt.c \
	sim/lib_env.c \
	sim/lib_evtchn.c \
	sim/lib_gnt.c sim/lib_gnt.h sim/lib_gnt_internal.h sim/lib_gnt_make.c \
	sim/lib_gnttab.c \
	sim/lib_foreign.c \
	sim/lib_memory.c \
	sim/lib_path.c \
	sim/lib_pause.c \
	sim/lib_toolstack.c sim/lib_toolstack.h \
	sim/static.h sim/xen_path.h
# It defines open and open64 side by side, which the large-file macros would make one.
libxensim_la_CPPFLAGS = $(AM_CPPFLAGS) -U_FILE_OFFSET_BITS
libxensim_la_LDFLAGS = -module -avoid-version -shared $(LINK_DEFS)

# It needs none of Xen's libraries: the program that it is loaded into has them.
libxensim_trace_la_SOURCES = sim/proto.h sim/record_text.h sim/trace.c
libxensim_trace_la_LDFLAGS = -module -avoid-version -shared

dist_doc_DATA += doc/xensim.md
# For the tests of projects in C.
include_HEADERS += sim/xensim.h
check_PROGRAMS += examples/xensim-test
examples_xensim_test_SOURCES = examples/xensim-test.c
examples_xensim_test_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/sim
examples_xensim_test_LDADD = $(XENVCHAN_LIBS)
examples_xensim_test_LDFLAGS = -no-install
exampledir = $(docdir)/examples
dist_example_DATA = examples/xensim-test.c examples/xensim-gitlab.yml examples/xensim-workflow.yml
dist_example_SCRIPTS = examples/xensim-test.sh
xensimexampledir = $(exampledir)/xensim-pytest
dist_xensimexample_DATA = examples/xensim-pytest/conftest.py examples/xensim-pytest/test_backend.py \
	examples/xensim-pytest/test_vchan.py examples/xensim-pytest/test_xenstore.py

# Programs for the integration tests that know nothing but Xen's own libraries.
check_PROGRAMS += check-vchan
check_vchan_SOURCES = sim/check_vchan.c
check_vchan_LDADD = $(XENVCHAN_LIBS)
check_PROGRAMS += check-xen
check_xen_SOURCES = sim/check_xen.c sim/check_xen.h sim/check_xen_domains.c sim/check_xen_events.c \
	sim/check_xen_memory.c sim/check_xen_raw.c sim/check_xen_store.c
check_xen_LDADD = $(XENGNTTAB_LIBS) $(XENEVTCHN_LIBS) $(XENSTORE_LIBS) $(XENCONTROL_LIBS) -lxenforeignmemory -lxendevicemodel

# xensim's XenStore server: a library that the hypervisor process embeds.
noinst_LIBRARIES += libsimstore.a
libsimstore_a_SOURCES = \
	sim/store.c sim/store.h sim/store_internal.h \
	sim/store_connection.c \
	sim/store_path.c sim/store_path.h \
	sim/store_request.c sim/store_request.h \
	sim/store_transaction.c \
	sim/store_tree.c sim/store_tree.h \
	sim/store_turns.c \
	sim/store_watch.c \
	sim/store_wire.c sim/store_wire.h
simstore_libs = libsimstore.a $(LIBEVENT_LIBS)

if HAVE_CMOCKA
sim_store_tests = sim/store_unit_tree sim/store_unit_watch sim/store_unit_transaction sim/store_unit_limits \
	sim/store_unit_xen sim/store_unit_client
check_PROGRAMS += $(sim_store_tests)
TESTS += $(sim_store_tests)
sim_store_fixture = sim/store_unit.c sim/store_unit.h
sim_store_test_libs = $(simstore_libs) $(CMOCKA_LIBS)

sim_store_unit_tree_SOURCES = sim/store_unit_tree.c $(sim_store_fixture)
sim_store_unit_tree_LDADD = $(sim_store_test_libs)

sim_store_unit_watch_SOURCES = sim/store_unit_watch.c $(sim_store_fixture)
sim_store_unit_watch_LDADD = $(sim_store_test_libs)

sim_store_unit_transaction_SOURCES = sim/store_unit_transaction.c $(sim_store_fixture)
sim_store_unit_transaction_LDADD = $(sim_store_test_libs)

sim_store_unit_limits_SOURCES = sim/store_unit_limits.c $(sim_store_fixture)
sim_store_unit_limits_LDADD = $(sim_store_test_libs)

sim_store_unit_xen_SOURCES = sim/store_unit_xen.c $(sim_store_fixture)
sim_store_unit_xen_LDADD = $(sim_store_test_libs)
EXTRA_DIST += sim/store_unit_xen.txt
# Makes the recording, on a Xen host.
check_PROGRAMS += sim/store_record
sim_store_record_SOURCES = sim/store_record.c
sim_store_record_LDADD = $(XENSTORE_LIBS)

# The real libxenstore against the store.
sim_store_unit_client_SOURCES = sim/store_unit_client.c
sim_store_unit_client_LDADD = $(sim_store_test_libs) $(XENSTORE_LIBS)
endif
