# SPDX-License-Identifier: LGPL-2.1-or-later
# For systems with another init than systemd: configure --without-systemd. OpenRC's script goes where OpenRC looks; the others are
# service directories, which the administrator links to where s6 or runit looks (doc/running-on-xen.md).
services = packaging/openrc/xenmsgd packaging/s6/run packaging/runit/run packaging/runit/check packaging/runit/finish
EXTRA_DIST += packaging/etc/xenmsgd.conf packaging/etc/policy.d/README packaging/etc/policy.d/40-vchan.conf packaging/alpine/APKBUILD packaging/yocto/xenmsg_0.2.0.bb packaging/prepare packaging/s6/notification-fd packaging/s6/finish $(services:=.in)
CLEANFILES += $(services)

make_service = $(AM_V_GEN)$(MKDIR_P) $(@D) && sed -e 's|@sbindir[@]|$(sbindir)|g' -e 's|@pkglibexecdir[@]|$(pkglibexecdir)|g' \
	-e 's|@bindir[@]|$(bindir)|g'
packaging/openrc/xenmsgd: $(srcdir)/packaging/openrc/xenmsgd.in Makefile
	$(make_service) $(srcdir)/packaging/openrc/xenmsgd.in >$@
packaging/s6/run: $(srcdir)/packaging/s6/run.in Makefile
	$(make_service) $(srcdir)/packaging/s6/run.in >$@
packaging/runit/run: $(srcdir)/packaging/runit/run.in Makefile
	$(make_service) $(srcdir)/packaging/runit/run.in >$@
packaging/runit/check: $(srcdir)/packaging/runit/check.in Makefile
	$(make_service) $(srcdir)/packaging/runit/check.in >$@
packaging/runit/finish: $(srcdir)/packaging/runit/finish.in Makefile
	$(make_service) $(srcdir)/packaging/runit/finish.in >$@

if !WITH_SYSTEMD
pkglibexec_SCRIPTS = packaging/prepare
initdir = $(sysconfdir)/init.d
nodist_init_SCRIPTS = packaging/openrc/xenmsgd
s6dir = $(pkgdatadir)/s6/xenmsgd
dist_s6_SCRIPTS = packaging/s6/finish
nodist_s6_SCRIPTS = packaging/s6/run
dist_s6_DATA = packaging/s6/notification-fd
runitdir = $(pkgdatadir)/runit/xenmsgd
nodist_runit_SCRIPTS = packaging/runit/run packaging/runit/check packaging/runit/finish
endif
