# SPDX-License-Identifier: LGPL-2.1-or-later
# xensim: the command, with the hypervisor process in it, and the library that it preloads into domains. It stands in for calls of
# glibc, by their names there.
if GLIBC
bin_PROGRAMS += xensim
pkglib_LTLIBRARIES += libxensim.la libxensim-trace.la
dist_man_MANS += doc/xensim.1
endif
xensim_SOURCES = \
	sim/commands/ask.c \
	sim/commands/command.h \
	sim/commands/compare.c \
	sim/commands/daemons.c \
	sim/commands/exec.c \
	sim/commands/help.c \
	sim/commands/start.c \
	sim/commands/trace.c \
	sim/commands/xensim.c \
	sim/hypervisor/call.c \
	sim/hypervisor/client.c \
	sim/hypervisor/device.c \
	sim/hypervisor/domain.c \
	sim/hypervisor/evtchn.c sim/hypervisor/evtchn_page.h \
	sim/hypervisor/frame.c \
	sim/hypervisor/grant.c sim/hypervisor/grant_save.c \
	sim/hypervisor/home.c \
	sim/hypervisor/host.c \
	sim/hypervisor/hv.h sim/hypervisor/hv_internal.h \
	sim/hypervisor/libxl.c \
	sim/hypervisor/life.c \
	sim/hypervisor/map.c \
	sim/hypervisor/operation.c \
	sim/hypervisor/orphan.c \
	sim/hypervisor/process.c \
	sim/hypervisor/proto.h \
	sim/hypervisor/record.c sim/hypervisor/record_text.h \
	sim/hypervisor/refusal.c \
	sim/hypervisor/save.c \
	sim/toolstack/admin.c sim/toolstack/admin_internal.h \
	sim/toolstack/fault.c \
	sim/toolstack/main.c sim/toolstack/main.h \
	sim/toolstack/report.c
# What may be meant is told as the command xenmsg tells it.
xensim_SOURCES += cli/nearest.c cli/nearest.h
xensim_CPPFLAGS = $(AM_CPPFLAGS) -DPKGLIBDIR='"$(pkglibdir)"' -DSBINDIR='"$(sbindir)"'
xensim_LDADD = $(simstore_libs) $(JSONC_LIBS)

libxensim_la_SOURCES = \
	sim/hypervisor/evtchn_page.h sim/hypervisor/proto.h \
	sim/preload/call.c \
	sim/preload/clock.c \
	sim/preload/conn.c \
	sim/preload/device.c sim/preload/device.h sim/preload/device_gnt.c \
	sim/preload/env.c \
	sim/preload/evtchn.c \
	sim/preload/foreign.c \
	sim/preload/gnt.c sim/preload/gnt.h sim/preload/gnt_make.c \
	sim/preload/lib_internal.h \
	sim/preload/memory.c \
	sim/preload/path.c \
	sim/preload/pause.c sim/preload/stall.c \
	sim/preload/toolstack.c sim/preload/toolstack.h \
	sim/preload/xen_path.h
# It defines open and open64 side by side, which the large-file macros would make one.
libxensim_la_CPPFLAGS = $(AM_CPPFLAGS) -U_FILE_OFFSET_BITS
libxensim_la_LDFLAGS = -module -avoid-version -shared $(LINK_DEFS)

# It needs none of Xen's libraries: the program that it is loaded into has them.
libxensim_trace_la_SOURCES = sim/hypervisor/proto.h sim/hypervisor/record_text.h sim/commands/trace_preload.c
libxensim_trace_la_LDFLAGS = -module -avoid-version -shared

dist_doc_DATA += doc/xensim.md
# For the tests of projects in C.
include_HEADERS += sim/commands/xensim.h
check_PROGRAMS += examples/xensim-test
examples_xensim_test_SOURCES = examples/xensim-test.c
examples_xensim_test_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/sim/commands
examples_xensim_test_LDADD = $(XENVCHAN_LIBS)
examples_xensim_test_LDFLAGS = -no-install
exampledir = $(docdir)/examples
dist_example_DATA = examples/xensim-test.c examples/xensim-gitlab.yml examples/xensim-workflow.yml
dist_example_SCRIPTS = examples/xensim-test.sh
xensimexampledir = $(exampledir)/xensim-pytest
dist_xensimexample_DATA = examples/xensim-pytest/conftest.py examples/xensim-pytest/test_backend.py \
	examples/xensim-pytest/test_vchan.py examples/xensim-pytest/test_xenstore.py

# xensim's XenStore server: a library that the hypervisor process embeds.
noinst_LIBRARIES += libsimstore.a
libsimstore_a_SOURCES = \
	sim/store/connection.c \
	sim/store/path.c sim/store/path.h \
	sim/store/request.c sim/store/request.h \
	sim/store/store.c sim/store/store.h sim/store/store_internal.h \
	sim/store/transaction.c \
	sim/store/tree.c sim/store/tree.h \
	sim/store/watch.c \
	sim/store/wire.c sim/store/wire.h
simstore_libs = libsimstore.a $(LIBEVENT_LIBS)

# Programs for the tests of it that know nothing but Xen's own libraries.
check_PROGRAMS += check-vchan check-xen
check_vchan_SOURCES = tests/conformance/check_vchan.c
check_vchan_LDADD = $(XENVCHAN_LIBS)
check_xen_SOURCES = tests/conformance/check_xen.c tests/conformance/check_xen.h \
	tests/conformance/check_xen_domains.c tests/conformance/check_xen_events.c \
	tests/conformance/check_xen_memory.c tests/conformance/check_xen_raw.c tests/conformance/check_xen_store.c
check_xen_LDADD = $(XENGNTTAB_LIBS) $(XENEVTCHN_LIBS) $(XENSTORE_LIBS) $(XENCONTROL_LIBS) -lxenforeignmemory -lxendevicemodel

if HAVE_CMOCKA
check_PROGRAMS += tests/store/store_unit_limits
TESTS += tests/store/store_unit_limits
tests_store_store_unit_limits_SOURCES = tests/store/store_unit_limits.c tests/store/store_unit.c tests/store/store_unit.h
tests_store_store_unit_limits_LDADD = $(simstore_libs) $(CMOCKA_LIBS)
endif
