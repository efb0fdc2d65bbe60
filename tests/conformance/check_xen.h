/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_SIM_CHECK_XEN_H
#define XENMSG_SIM_CHECK_XEN_H

/* What the commands of check_xen share. Each is a function that gets its words, and answers with one line. */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <xenctrl.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#define MAX_OBJECTS 4096
#define MAX_PAGES   4096

struct tool {
	xengntshr_handle *gntshr;
	xengnttab_handle *gnttab;
	struct xs_handle *xs;
	xs_transaction_t transaction; /* in which requests are made, or XBT_NULL */
	xc_interface *xc;
	xenevtchn_handle *evtchn[64];
	unsigned evtchn_count;
	struct {
		unsigned char *start;
		uint32_t pages;
	} memory[MAX_OBJECTS];
	unsigned memory_count;
	char word[8][1024];
	long number[8];
	int words;
};

/* In tables that end with an empty one. */
struct tool_command {
	const char *name;
	int words; /* with its name */
	void (*run)(struct tool *tool);
};

extern const struct tool_command memory_commands[], event_commands[], store_commands[], domain_commands[],
	raw_commands[];

/* domain-end DOMID: of that domain alone: dying, shut down, why. */
void domain_end(struct tool *tool);
/* Answers "ok VALUE", or "error ERRNO" if it is negative. */
void result(long value);
/* Repeats an attempt until it fails, and answers the errno; "ok" when the limit was reached. */
void until_it_fails(struct tool *tool, bool (*attempt)(struct tool *tool, long i), long limit);

#endif
