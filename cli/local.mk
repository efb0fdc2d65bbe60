# SPDX-License-Identifier: LGPL-2.1-or-later
# The command. All but the commands themselves is a library of its own, for its unit tests.
noinst_LIBRARIES += libcli.a
libcli_a_SOURCES = \
	cli/cli.c cli/cli.h \
	cli/command.c cli/command.h \
	cli/errors.c \
	cli/far_status.c cli/far_status.h \
	cli/fields.c cli/fields.h \
	cli/histogram.h \
	cli/host_statuses.c cli/host_statuses.h \
	cli/host_view.c cli/host_view.h \
	cli/interrupt.c cli/interrupt.h \
	cli/json.h \
	cli/messages.c cli/messages.h \
	cli/metrics.c cli/metrics.h \
	cli/nearest.c cli/nearest.h \
	cli/payload.c cli/payload.h \
	cli/place.c cli/place.h \
	cli/pump.c cli/pump.h \
	cli/reconnecting.c cli/reconnecting.h \
	cli/run_record.c cli/run_record.h \
	cli/run_session.c cli/run_session.h \
	cli/terminal.c cli/terminal.h \
	cli/writer.c cli/writer.h
cli_libs = libcli.a $(wiregateway_libs) $(JSONC_LIBS) -lm
command_libs = $(cli_libs) $(client_lib) $(wire_lib) $(LIBEVENT_LIBS)

# A short command's time is nearly all that of the dynamic linker. So what needs further libraries is a
# program of its own, which the first one becomes.
bin_PROGRAMS += xenmsg
xenmsg_SOURCES = \
	cli/cmd_bench.c \
	cli/cmd_call.c \
	cli/cmd_connect.c \
	cli/cmd_daemon.c \
	cli/cmd_forward.c \
	cli/cmd_list.c \
	cli/cmd_ping.c \
	cli/cmd_publish.c \
	cli/cmd_recv.c \
	cli/cmd_run.c \
	cli/cmd_send.c \
	cli/cmd_serve.c \
	cli/cmd_status.c \
	cli/cmd_subscribe.c \
	cli/cmd_trace.c \
	cli/cmd_watch.c \
	cli/commands.c cli/commands.h \
	cli/main.c
xenmsg_CPPFLAGS = $(AM_CPPFLAGS) -DPKGLIBEXECDIR='"$(pkglibexecdir)"' \
	-DVCHAN_LIBRARY='"$(libdir)/libxenmsg-vchan.so.1"'
xenmsg_LDADD = $(command_libs)

pkglibexec_PROGRAMS += xenmsg-more
xenmsg_more_SOURCES = \
	cli/more/cmd_doctor.c \
	cli/more/cmd_exporter.c \
	cli/more/cmd_policy.c \
	cli/more/policy_matrix.c cli/more/policy_matrix.h \
	cli/more/rules_tried.c cli/more/rules_tried.h \
	cli/more/cmd_top.c \
	cli/commands.h cli/more/commands.c cli/more/more.h \
	cli/main.c
xenmsg_more_CFLAGS = $(AM_CFLAGS) $(NCURSES_CFLAGS)
# Rules that aren't in force are read as the daemon does: of its library only that is taken.
xenmsg_more_LDADD = libdaemon.a libbase.a $(command_libs) $(INIH_LIBS) $(LIBEVENT_EXTRA_LIBS) $(XENSTORE_LIBS) $(XENGNTTAB_LIBS) $(XENEVTCHN_LIBS) $(NCURSES_LIBS)

# Each shell looks for its completion there.
bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
fishcompletiondir = $(datadir)/fish/vendor_completions.d
dist_bashcompletion_DATA = cli/completion/bash/xenmsg
dist_zshcompletion_DATA = cli/completion/_xenmsg
dist_fishcompletion_DATA = cli/completion/xenmsg.fish

# A manual page for each command, made from its help.
command_pages = \
	doc/xenmsg-bench.1 doc/xenmsg-call.1 doc/xenmsg-connect.1 doc/xenmsg-daemon.1 doc/xenmsg-doctor.1 doc/xenmsg-endpoints.1 \
	doc/xenmsg-exporter.1 doc/xenmsg-forward.1 doc/xenmsg-hosts.1 doc/xenmsg-listen.1 doc/xenmsg-peers.1 \
	doc/xenmsg-ping.1 doc/xenmsg-policy.1 doc/xenmsg-policy-check.1 doc/xenmsg-policy-denied.1 \
	doc/xenmsg-policy-reload.1 doc/xenmsg-policy-show.1 doc/xenmsg-policy-test.1 doc/xenmsg-publish.1 doc/xenmsg-recv.1 doc/xenmsg-run.1 doc/xenmsg-send.1 \
	doc/xenmsg-serve.1 doc/xenmsg-status.1 doc/xenmsg-subscribe.1 doc/xenmsg-top.1 doc/xenmsg-trace.1 doc/xenmsg-vchan.1 doc/xenmsg-watch.1
pages_sources = $(srcdir)/doc/xenmsg.1 $(srcdir)/cli/commands.c $(srcdir)/cli/cmd_*.c $(srcdir)/cli/more/cmd_*.c
man_MANS = $(command_pages)
CLEANFILES += $(command_pages)
EXTRA_DIST += cli/help-to-man
$(command_pages): $(srcdir)/cli/help-to-man $(pages_sources)
	$(AM_V_GEN)$(MKDIR_P) doc && command=$@ && command=$${command#doc/xenmsg-} && \
		$(AWK) -f $(srcdir)/cli/help-to-man -v command=$${command%.1} $(pages_sources) >$@-t && mv -f $@-t $@
