# SPDX-License-Identifier: LGPL-2.1-or-later
# The unit and the kernel modules that it needs. Below $(prefix), so that an installation elsewhere stays in one place.
systemdunitdir = $(prefix)/lib/systemd/system
nodist_systemdunit_DATA = systemd/xenmsgd.service
modulesloaddir = $(prefix)/lib/modules-load.d
dist_modulesload_DATA = systemd/xenmsg-modules.conf
EXTRA_DIST += systemd/xenmsgd.service.in
CLEANFILES += systemd/xenmsgd.service

systemd/xenmsgd.service: $(srcdir)/systemd/xenmsgd.service.in Makefile
	$(AM_V_GEN)$(MKDIR_P) systemd && sed 's|@sbindir[@]|$(sbindir)|' $(srcdir)/systemd/xenmsgd.service.in >$@
