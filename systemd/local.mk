# SPDX-License-Identifier: LGPL-2.1-or-later
# The units and what else of the system they need. Below $(prefix), so that an installation elsewhere stays in one place.
if WITH_SYSTEMD
systemdunitdir = $(prefix)/lib/systemd/system
nodist_systemdunit_DATA = systemd/xenmsgd.service systemd/xenmsg-keeper.service systemd/xenmsg-exporter.service \
	systemd/xenmsg-serve@.service
dist_systemdunit_DATA = systemd/xenmsgd.socket systemd/xenmsg-keeper.socket
if ENABLE_NATS
nodist_systemdunit_DATA += systemd/xenmsg-gateway.service
dist_systemdunit_DATA += systemd/xenmsg-gateway.socket
gateway_sysusers = systemd/xenmsg-gateway-sysusers.conf
endif
polkitrulesdir = $(datadir)/polkit-1/rules.d
nodist_polkitrules_DATA = systemd/xenmsg-polkit.rules
endif
modulesloaddir = $(prefix)/lib/modules-load.d
dist_modulesload_DATA = systemd/xenmsg-modules.conf
EXTRA_DIST += systemd/xenmsg-polkit.rules.in systemd/xenmsg-exporter.service.in systemd/xenmsg-serve@.service.in systemd/xenmsgd.service.in systemd/xenmsg-keeper.service.in systemd/xenmsg-sysusers.conf systemd/xenmsg-tmpfiles.conf
EXTRA_DIST += systemd/xenmsg-gateway.service.in systemd/xenmsg-gateway-sysusers.conf
CLEANFILES += systemd/xenmsg-gateway.service systemd/xenmsg-polkit.rules systemd/xenmsg-exporter.service systemd/xenmsg-serve@.service systemd/xenmsgd.service systemd/xenmsg-keeper.service

make_unit = $(AM_V_GEN)$(MKDIR_P) systemd && sed -e 's|@sbindir[@]|$(sbindir)|' -e 's|@pkglibexecdir[@]|$(pkglibexecdir)|'
systemd/xenmsgd.service: $(srcdir)/systemd/xenmsgd.service.in Makefile
	$(make_unit) -e 's|@bindir[@]|$(bindir)|' $(srcdir)/systemd/xenmsgd.service.in >$@
systemd/xenmsg-exporter.service: $(srcdir)/systemd/xenmsg-exporter.service.in Makefile
	$(make_unit) -e 's|@bindir[@]|$(bindir)|' $(srcdir)/systemd/xenmsg-exporter.service.in >$@
systemd/xenmsg-gateway.service: $(srcdir)/systemd/xenmsg-gateway.service.in Makefile
	$(make_unit) $(srcdir)/systemd/xenmsg-gateway.service.in >$@
systemd/xenmsg-serve@.service: $(srcdir)/systemd/xenmsg-serve@.service.in Makefile
	$(make_unit) -e 's|@bindir[@]|$(bindir)|' $(srcdir)/systemd/xenmsg-serve@.service.in >$@
systemd/xenmsg-keeper.service: $(srcdir)/systemd/xenmsg-keeper.service.in Makefile
	$(make_unit) $(srcdir)/systemd/xenmsg-keeper.service.in >$@
systemd/xenmsg-polkit.rules: $(srcdir)/systemd/xenmsg-polkit.rules.in Makefile
	$(make_unit) $(srcdir)/systemd/xenmsg-polkit.rules.in >$@

if WITH_SYSTEMD
# Each directory says by itself whose the file is: both are called xenmsg.conf there.
install-data-local:
	$(MKDIR_P) "$(DESTDIR)$(prefix)/lib/sysusers.d" "$(DESTDIR)$(prefix)/lib/tmpfiles.d"
	$(INSTALL_DATA) "$(srcdir)/systemd/xenmsg-sysusers.conf" "$(DESTDIR)$(prefix)/lib/sysusers.d/xenmsg.conf"
	if test -n "$(gateway_sysusers)"; then \
		$(INSTALL_DATA) "$(srcdir)/$(gateway_sysusers)" "$(DESTDIR)$(prefix)/lib/sysusers.d/xenmsg-gateway.conf"; \
	fi
	$(INSTALL_DATA) "$(srcdir)/systemd/xenmsg-tmpfiles.conf" "$(DESTDIR)$(prefix)/lib/tmpfiles.d/xenmsg.conf"

uninstall-local:
	rm -f "$(DESTDIR)$(prefix)/lib/sysusers.d/xenmsg-gateway.conf"
	rm -f "$(DESTDIR)$(prefix)/lib/sysusers.d/xenmsg.conf" "$(DESTDIR)$(prefix)/lib/tmpfiles.d/xenmsg.conf"
endif
