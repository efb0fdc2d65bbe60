/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A stock program that serves a vchan and asks libxenctrl whether the other side still lives, since
 * libxenvchan can't know that its domain was destroyed. Qubes' libvchan asks the same questions. It prints a
 * line at each change: waiting, connected, closed (by the client), gone (the domain is). It ends after the
 * last two, and links nothing of this project.
 *
 *	vchan-alive DOMID PATH
 */
/* First, since it says which of Xen's headers' contents there is. */
#include <xenctrl.h>

#include <errno.h>
#include <libxenvchan.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INTERVAL_MS 50

/* A guest isn't told of domains, only whether one is there: with a port that no domain has, the error
 * says. */
static bool domain_is_there(xc_interface *xc, int domid)
{
	xc_evtchn_status_t status = {.dom = (domid_t)domid, .port = (evtchn_port_t)-1};
	xc_domaininfo_t info;
	int count = xc_domain_getinfolist(xc, (uint32_t)domid, 1, &info);

	if (count >= 0)
		return count == 1 && info.domain == (domid_t)domid && !(info.flags & XEN_DOMINF_dying);
	return xc_evtchn_status(xc, &status) == 0 || errno != ESRCH;
}

/* Once the other domain has gone, the port waits for another. */
static bool port_is_connected(xc_interface *xc, const struct libxenvchan *vchan)
{
	xc_evtchn_status_t status = {.dom = DOMID_SELF, .port = vchan->event_port};

	return xc_evtchn_status(xc, &status) == 0 && status.status == EVTCHNSTAT_interdomain;
}

static const char *state_of(xc_interface *xc, struct libxenvchan *vchan, int domid)
{
	switch (libxenvchan_is_open(vchan)) {
	case 0:
		return "closed";
	case 1:
		return port_is_connected(xc, vchan) ? "connected" : "gone";
	default:
		return domain_is_there(xc, domid) ? "waiting" : "gone";
	}
}

int main(int argc, char **argv)
{
	const char *state = "", *now;
	struct libxenvchan *vchan;
	xc_interface *xc;
	int domid;

	if (argc != 3) {
		fprintf(stderr, "usage: vchan-alive DOMID PATH\n");
		return 2;
	}
	domid = atoi(argv[1]);
	xc = xc_interface_open(NULL, NULL, 0);
	vchan = libxenvchan_server_init(NULL, domid, argv[2], 1024, 1024);
	if (!xc || !vchan) {
		perror(xc ? "libxenvchan_server_init" : "xc_interface_open");
		return 1;
	}
	do {
		struct pollfd pollfd = {.fd = libxenvchan_fd_for_select(vchan), .events = POLLIN};

		now = state_of(xc, vchan, domid);
		if (strcmp(now, state) != 0) {
			puts(now);
			fflush(stdout);
		}
		state = now;
		if (poll(&pollfd, 1, INTERVAL_MS) == 1)
			libxenvchan_wait(vchan);
	} while (strcmp(state, "closed") != 0 && strcmp(state, "gone") != 0);
	libxenvchan_close(vchan);
	xc_interface_close(xc);
	return 0;
}
