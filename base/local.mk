# SPDX-License-Identifier: LGPL-2.1-or-later
# What a daemon and its gateway are built on: settings, logs, clocks, and whose turn it is.
noinst_LIBRARIES += libbase.a
libbase_a_SOURCES = \
	base/carried_memory.c base/carried_memory.h \
	base/fd_parcel.c base/fd_parcel.h \
	base/clock.h \
	base/conf_dir.c base/conf_dir.h \
	base/config.c base/config.h \
	base/cost.h \
	base/descriptors.c base/descriptors.h \
	base/domid_set.h \
	base/durations.h \
	base/handed_over.c base/handed_over.h \
	base/image.c base/image.h \
	base/invariant.h \
	base/ini_file.c base/ini_file.h \
	base/log.c base/log.h \
	base/log_limit.c base/log_limit.h \
	base/notify.c base/notify.h \
	base/quota.c base/quota.h \
	base/peer_id.h \
	base/self.c base/self.h \
	base/service.h \
	base/share.h \
	base/shared_memory.c base/shared_memory.h \
	base/restore_clock.c base/restore_clock.h \
	base/timer.h \
	base/turns.c base/turns.h \
	base/unix_listener.c base/unix_listener.h \
	base/users.c base/users.h
if WITH_SYSTEMD
libbase_a_SOURCES += base/service_systemd.c
else
libbase_a_SOURCES += base/service_none.c
endif
# Which format the image has that a daemon hands over: base/image.h.
nodist_libbase_a_SOURCES = base/image_format.c
EXTRA_DIST += base/image-format
CLEANFILES += base/image_format.c
image_sources = $(libwire_la_SOURCES) $(libwiregateway_a_SOURCES) $(libbase_a_SOURCES) $(libdaemon_a_SOURCES) daemon/main/main.c
base/image_format.c: $(image_sources) base/image-format base/local.mk
	$(AM_V_GEN)$(MKDIR_P) base && format=$$(cd $(srcdir) && base/image-format $(image_sources)) && \
		printf '#include "base/image.h"\nconst uint32_t image_format = %su;\n' "$$format" > $@
libbase_a_CFLAGS = $(AM_CFLAGS) $(LIBEVENT_CFLAGS) $(INIH_CFLAGS)
