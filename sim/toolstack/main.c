/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "config.h"

#include "sim/toolstack/admin_internal.h"
#include "sim/toolstack/main.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <utlist.h>

void hv_stop(struct hv *hv)
{
	event_base_loopbreak(hv->base);
}

static void on_signal(evutil_socket_t fd, short events, void *userdata)
{
	hv_stop(userdata);
}

static int complain(const char *what, int error)
{
	fprintf(stderr, "xensim: %s: %s\n", what, strerror(-error));
	return error;
}

/* Raises the limit: each set of granted pages and each event channel handle costs descriptors here. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Opens a file of the host's directory. NULL: errno says why. */
static FILE *open_file(const struct hv *hv, const char *name, const char *mode)
{
	char *path;
	FILE *file;

	if (asprintf(&path, "%s/%s", hv->dir, name) < 0)
		return NULL;
	file = fopen(path, mode);
	free(path);
	return file;
}

static int open_log(struct hv *hv)
{
	FILE *version = open_file(hv, HV_VERSION, "we");
	int r;

	if (!version)
		return -errno;
	r = fprintf(version, "%s\n", PACKAGE_VERSION) < 0 ? -EIO : 0;
	if (fclose(version) < 0)
		r = -errno;
	hv->log = r == 0 ? open_file(hv, HV_LOG, "ae") : NULL;
	return hv->log || r < 0 ? r : -errno;
}

static int start(struct hv *hv, unsigned domains, bool like_xenstored)
{
	struct sim_store_options options;
	struct hv_domain *domain;
	int r = open_log(hv);

	if (r < 0)
		return complain("cannot write the log", r);
	hv->base = event_base_new();
	sim_store_options_init(&options);
	options.like_xenstored = like_xenstored;
	hv->store = hv->base ? sim_store_new(hv->base, &options) : NULL;
	if (!hv->store)
		return complain("cannot start", -ENOMEM);
	sim_store_refuse(hv->store, hv_store_refused, hv);
	sim_store_listen_to_changes(hv->store, hv_domains_hear, hv);
	r = hv_domain_create(hv, true, 0, NULL, HV_DOM0, &domain);
	for (unsigned i = 0; r == 0 && i < domains; i++)
		r = hv_domain_create(hv, false, 0, NULL, HV_PVH, &domain);
	if (r < 0)
		return complain("cannot create a domain", r);
	r = hv_admin_listen(hv);
	return r < 0 ? complain(hv->dir, r) : 0;
}

static void main_finish(struct hv *hv)
{
	struct hv_forbidden *forbidden, *next;

	if (hv->silence)
		event_free(hv->silence);
	if (hv->orphan_timer)
		event_free(hv->orphan_timer);
	if (hv->admin)
		evconnlistener_free(hv->admin);
	LL_FOREACH_SAFE(hv->forbidden, forbidden, next)
		free(forbidden);
	hv_domains_free(hv);
	if (hv->store)
		hv_record_end(hv);
	sim_store_free(hv->store);
	if (hv->base)
		event_base_free(hv->base);
	if (hv->log)
		fclose(hv->log);
	free(hv->kernel_log);
	hv_remove_directory(hv->dir);
	free(hv->dir);
}

int hv_run(const char *dir, unsigned domains, bool like_xenstored, int ready_fd)
{
	struct hv hv = {.last_domid = 0};
	struct event *terminate = NULL, *interrupt = NULL;
	int r;

	signal(SIGPIPE, SIG_IGN);
	raise_descriptor_limit();
	hv.dir = strdup(dir);
	if (!hv.dir)
		return -ENOMEM;
	r = start(&hv, domains, like_xenstored);
	if (r == 0) {
		terminate = evsignal_new(hv.base, SIGTERM, on_signal, &hv);
		interrupt = evsignal_new(hv.base, SIGINT, on_signal, &hv);
		if (terminate && interrupt) {
			event_add(terminate, NULL);
			event_add(interrupt, NULL);
		}
		/* Let go of the caller's stderr, so that a reader waiting for its end doesn't wait for us; a
		 * sanitizer still finds a file to write to. */
		if (dup2(fileno(hv.log), STDERR_FILENO) >= 0 && write(ready_fd, "", 1) == 1) {
			close(ready_fd);
			event_base_dispatch(hv.base);
		}
	}
	if (terminate)
		event_free(terminate);
	if (interrupt)
		event_free(interrupt);
	main_finish(&hv);
	return r;
}
