/* SPDX-License-Identifier: LGPL-2.1-or-later */

#ifdef XENMSG_INVARIANTS

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <event2/buffer.h>

#include "base/quota.h"
#include "daemon/link/link.h"
#include "daemon/serve/watches.h"
#include "daemon/main/daemon_internal.h"
#include "daemon/switch/work_pool.h"
#include "daemon/switch/hop.h"
#include "daemon/switch/memfd_lifetimes.h"
#include "daemon/serve/report.h"
#include "daemon/topic/topics.h"

void invariants_check(const struct daemon *daemon)
{
	quota_check(daemon->quota);
	switch_check(&daemon->board);
	links_check(daemon->links);
	topics_check(daemon->topics);
	watches_check(daemon->watches);
}

void invariants_dump(struct daemon *daemon, uint64_t renewals, const char *when)
{
	const struct report_question all = {
		.kind = REPORT_STATUS, .all = true, .domid = -1, .viewer = {.sees_all = true}};
	const char *folder = getenv("XENMSG_DUMPS");
	struct evbuffer *text = evbuffer_new();
	struct report *report = report_new(&all);
	char path[PATH_MAX];
	uint64_t units;
	int fd;

	/* What a thread still unmaps goes with this daemon, and isn't there for the next one. */
	work_pool_await(daemon->work_pool);
	memfd_lifetimes_settle(&daemon->board);
	while (folder && text && report && report_more(report, &daemon->sources, text, &units) == 1)
		;
	snprintf(path, sizeof(path), "%s/%s-%" PRIu64 ".%s", folder, daemon->self.instance_text, renewals,
		 when);
	fd = folder && text ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0666) : -1;
	if (fd >= 0) {
		while (evbuffer_get_length(text) && evbuffer_write(text, fd) > 0)
			;
		close(fd);
	}
	report_free(report);
	if (text)
		evbuffer_free(text);
}

#endif
