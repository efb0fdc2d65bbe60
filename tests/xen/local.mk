# SPDX-License-Identifier: LGPL-2.1-or-later
# The rig: a real Xen host in QEMU. tests/xen/run builds `xen-stage`: what is installed, and the programs that the tests use.
rig_programs = rig-remote check-vchan hostile-peer
EXTRA_PROGRAMS += rig-remote
CLEANFILES += rig-remote
rig_remote_SOURCES = tests/xen/remote.c
rig_remote_CFLAGS = $(AM_CFLAGS) $(XENSTORE_CFLAGS)
rig_remote_LDADD = $(XENSTORE_LIBS)

xen-stage: all $(rig_programs)
	test -n "$(STAGE)"
	$(MKDIR_P) "$(STAGE)/rig/bin"
	$(MAKE) $(AM_MAKEFLAGS) -s install-strip DESTDIR="$(STAGE)" >/dev/null
	$(LIBTOOL) --quiet --mode=install $(INSTALL_PROGRAM) $(rig_programs) "$(STAGE)/rig/bin" >/dev/null
.PHONY: xen-stage

EXTRA_DIST += tests/xen/build tests/xen/run tests/xen/extract-vmlinux tests/xen/init tests/xen/runner tests/xen/daemon \
	tests/xen/lib.sh tests/xen/test_00_host.sh tests/xen/test_10_messages.sh tests/xen/test_20_life.sh \
	tests/xen/test_30_limits.sh tests/xen/test_40_stock.sh
