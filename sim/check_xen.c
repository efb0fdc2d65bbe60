/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls Xen's libraries for tests: takes one command a line on stdin, and answers each with one line, "ok"
 * and the results, or "error ERRNO". Objects are named by the number that the answer to their making gave. It
 * links nothing of this project.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
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

struct command {
	const char *name;
	int words;
	void (*run)(struct tool *tool);
};

static void result(long value)
{
	if (value < 0)
		printf("error %d\n", errno);
	else
		printf("ok %ld\n", value);
}

static void add_memory(struct tool *tool, void *start, uint32_t pages, const uint32_t *refs)
{
	if (!start) {
		printf("error %d\n", errno);
		return;
	}
	tool->memory[tool->memory_count].start = start;
	tool->memory[tool->memory_count].pages = pages;
	printf("ok %u", tool->memory_count++);
	for (uint32_t i = 0; refs && i < pages; i++)
		printf(" %u", refs[i]);
	putchar('\n');
}

/* share DOMID PAGES WRITABLE */
static void share(struct tool *tool)
{
	static uint32_t refs[MAX_PAGES];
	uint32_t pages = (uint32_t)tool->number[2];

	add_memory(tool,
		   xengntshr_share_pages(tool->gntshr, (uint32_t)tool->number[1], (int)pages, refs,
					 (int)tool->number[3]),
		   pages, refs);
}

/* share-notify DOMID OFFSET PORT */
static void share_notify(struct tool *tool)
{
	uint32_t ref;

	add_memory(tool,
		   xengntshr_share_page_notify(tool->gntshr, (uint32_t)tool->number[1], &ref, 1,
					       (uint32_t)tool->number[2], (evtchn_port_t)tool->number[3]),
		   1, &ref);
}

/* map DOMID FIRST-REF PAGES WRITABLE */
static void map(struct tool *tool)
{
	static uint32_t refs[MAX_PAGES];
	uint32_t pages = (uint32_t)tool->number[3];
	int prot = tool->number[4] ? PROT_READ | PROT_WRITE : PROT_READ;

	for (uint32_t i = 0; i < pages && i < MAX_PAGES; i++)
		refs[i] = (uint32_t)tool->number[2] + i;
	add_memory(
		tool,
		xengnttab_map_domain_grant_refs(tool->gnttab, pages, (uint32_t)tool->number[1], refs, prot),
		pages, NULL);
}

/* map-notify DOMID REF OFFSET PORT */
static void map_notify(struct tool *tool)
{
	add_memory(tool,
		   xengnttab_map_grant_ref_notify(tool->gnttab, (uint32_t)tool->number[1],
						  (uint32_t)tool->number[2], PROT_READ | PROT_WRITE,
						  (uint32_t)tool->number[3], (evtchn_port_t)tool->number[4]),
		   1, NULL);
}

static void take_back(struct tool *tool)
{
	result(xengntshr_unshare(tool->gntshr, tool->memory[tool->number[1]].start,
				 tool->memory[tool->number[1]].pages));
}

static void unmap(struct tool *tool)
{
	result(xengnttab_unmap(tool->gnttab, tool->memory[tool->number[1]].start,
			       tool->memory[tool->number[1]].pages));
}

/* munmap MEMORY PAGE PAGES: as libxenvchan does */
static void plain_munmap(struct tool *tool)
{
	result(munmap(tool->memory[tool->number[1]].start + tool->number[2] * 4096,
		      (size_t)tool->number[3] * 4096));
}

static void reopen(struct tool *tool)
{
	xengntshr_close(tool->gntshr);
	xengnttab_close(tool->gnttab);
	tool->gntshr = xengntshr_open(NULL, 0);
	tool->gnttab = xengnttab_open(NULL, 0);
	result(tool->gntshr && tool->gnttab ? 0 : -1);
}

static void poke(struct tool *tool)
{
	((volatile unsigned char *)tool->memory[tool->number[1]].start)[tool->number[2]] =
		(unsigned char)tool->number[3];
	result(0);
}

static void peek(struct tool *tool)
{
	result(((volatile unsigned char *)tool->memory[tool->number[1]].start)[tool->number[2]]);
}

/* Threads that count in their own words of a page. What is there must be what they wrote. */
static struct counter {
	pthread_t thread;
	volatile unsigned long *word;
	unsigned long wrong;
} counters[8];
static atomic_bool counting;

static void *count(void *userdata)
{
	struct counter *counter = userdata;
	unsigned long written = *counter->word;

	while (counting) {
		counter->wrong += *counter->word != written;
		*counter->word = ++written;
	}
	return NULL;
}

/* count MEMORY THREADS: begin; counted THREADS: end, how often they didn't find what they had written */
static void begin_to_count(struct tool *tool)
{
	counting = true;
	for (long i = 0; i < tool->number[2] && i < 8; i++) {
		counters[i].word = (volatile unsigned long *)(tool->memory[tool->number[1]].start + i * 4096);
		counters[i].wrong = 0;
		pthread_create(&counters[i].thread, NULL, count, &counters[i]);
	}
	result(0);
}

static void end_counting(struct tool *tool)
{
	long wrong = 0;

	counting = false;
	for (long i = 0; i < tool->number[1] && i < 8; i++) {
		pthread_join(counters[i].thread, NULL);
		wrong += (long)counters[i].wrong;
	}
	result(wrong);
}

/* A thread that writes the time, in milliseconds, into the first and the last word of all pages. */
static struct {
	pthread_t thread;
	unsigned char *start;
	size_t bytes;
} stamper;

static void *stamp(void *userdata)
{
	struct timespec now;

	while (counting) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		for (size_t offset = 0; offset < stamper.bytes; offset += 4096) {
			volatile uint32_t *words = (volatile uint32_t *)(stamper.start + offset);

			words[0] = words[1023] =
				(uint32_t)(now.tv_sec % 1000000 * 1000 + now.tv_nsec / 1000000);
		}
	}
	return NULL;
}

/* stamp MEMORY: begin; stamped: end */
static void begin_to_stamp(struct tool *tool)
{
	counting = true;
	stamper.start = tool->memory[tool->number[1]].start;
	stamper.bytes = tool->memory[tool->number[1]].pages * (size_t)4096;
	result(pthread_create(&stamper.thread, NULL, stamp, NULL));
}

static void end_stamping(struct tool *tool)
{
	counting = false;
	result(pthread_join(stamper.thread, NULL));
}

/* word MEMORY OFFSET: reads 32 bits */
static void read_word(struct tool *tool)
{
	result(*(volatile uint32_t *)(tool->memory[tool->number[1]].start + tool->number[2]));
}

static xenevtchn_handle *handle(const struct tool *tool)
{
	return tool->evtchn[tool->number[1]];
}

static void evtchn_open(struct tool *tool)
{
	tool->evtchn[tool->evtchn_count] = xenevtchn_open(NULL, 0);
	result(tool->evtchn[tool->evtchn_count] ? (long)tool->evtchn_count++ : -1);
}

static void evtchn_fdopen(struct tool *tool)
{
	tool->evtchn[tool->evtchn_count] = xenevtchn_fdopen(NULL, xenevtchn_fd(handle(tool)), 0);
	result(tool->evtchn[tool->evtchn_count] ? (long)tool->evtchn_count++ : -1);
}

static void evtchn_close(struct tool *tool)
{
	result(xenevtchn_close(handle(tool)));
	tool->evtchn[tool->number[1]] = NULL;
}

static void nonblock(struct tool *tool)
{
	result(fcntl(xenevtchn_fd(handle(tool)), F_SETFL, O_NONBLOCK));
}

static void bind_unbound(struct tool *tool)
{
	result(xenevtchn_bind_unbound_port(handle(tool), (uint32_t)tool->number[2]));
}

static void bind_interdomain(struct tool *tool)
{
	result(xenevtchn_bind_interdomain(handle(tool), (uint32_t)tool->number[2],
					  (evtchn_port_t)tool->number[3]));
}

static void bind_virq(struct tool *tool)
{
	result(xenevtchn_bind_virq(handle(tool), 0));
}

static void unbind(struct tool *tool)
{
	result(xenevtchn_unbind(handle(tool), (evtchn_port_t)tool->number[2]));
}

static void notify(struct tool *tool)
{
	result(xenevtchn_notify(handle(tool), (evtchn_port_t)tool->number[2]));
}

static void pending(struct tool *tool)
{
	result(xenevtchn_pending(handle(tool)));
}

static void unmask(struct tool *tool)
{
	result(xenevtchn_unmask(handle(tool), (evtchn_port_t)tool->number[2]));
}

/* poll HANDLE MILLISECONDS */
static void poll_handle(struct tool *tool)
{
	struct pollfd pollfd = {.fd = xenevtchn_fd(handle(tool)), .events = POLLIN};

	result(poll(&pollfd, 1, (int)tool->number[2]));
}

static void xs_read_path(struct tool *tool)
{
	char *value = xs_read(tool->xs, tool->transaction, tool->word[1], NULL);

	if (value)
		printf("ok %s\n", value);
	else
		result(-1);
	free(value);
}

static void xs_write_path(struct tool *tool)
{
	result(xs_write(tool->xs, tool->transaction, tool->word[1], tool->word[2],
			(unsigned)strlen(tool->word[2]))
		       ? 0
		       : -1);
}

static void xs_watch_path(struct tool *tool)
{
	result(xs_watch(tool->xs, tool->word[1], "token") ? 0 : -1);
}

/* xs-event MILLISECONDS */
static void xs_event(struct tool *tool)
{
	struct pollfd pollfd = {.fd = xs_fileno(tool->xs), .events = POLLIN};
	unsigned count;
	char **event = NULL;

	if (poll(&pollfd, 1, (int)tool->number[1]) == 1)
		event = xs_read_watch(tool->xs, &count);
	printf("ok %s\n", event ? event[XS_WATCH_PATH] : "none");
	free(event);
}

static void xs_remove(struct tool *tool)
{
	result(xs_rm(tool->xs, tool->transaction, tool->word[1]) ? 0 : -1);
}

static void xs_make(struct tool *tool)
{
	result(xs_mkdir(tool->xs, tool->transaction, tool->word[1]) ? 0 : -1);
}

/* xs-begin; xs-commit: what is asked in between is in a transaction. */
static void xs_begin(struct tool *tool)
{
	tool->transaction = xs_transaction_start(tool->xs);
	result(tool->transaction != XBT_NULL ? 0 : -1);
}

static void xs_commit(struct tool *tool)
{
	result(xs_transaction_end(tool->xs, tool->transaction, false) ? 0 : -1);
	tool->transaction = XBT_NULL;
}

/* xs-chmod PATH n1,r2 */
static void xs_chmod(struct tool *tool)
{
	struct xs_permissions permissions[8];
	unsigned count = 0;
	char *save = NULL;

	for (char *entry = strtok_r(tool->word[2], ",", &save); entry && count < 8;
	     entry = strtok_r(NULL, ",", &save))
		xs_strings_to_perms(&permissions[count++], 1, entry);
	result(xs_set_permissions(tool->xs, tool->transaction, tool->word[1], permissions, count) ? 0 : -1);
}

/* xs-list PATH: how many there are */
static void xs_list(struct tool *tool)
{
	unsigned count;
	char **names = xs_directory(tool->xs, tool->transaction, tool->word[1], &count);

	result(names ? (long)count : -1);
	free(names);
}

/* xs-size PATH BYTES: writes a value of that length */
static void xs_size(struct tool *tool)
{
	char *value = calloc(1, (size_t)tool->number[2] + 1);

	if (value)
		memset(value, 'x', (size_t)tool->number[2]);
	result(value && xs_write(tool->xs, tool->transaction, tool->word[1], value, (unsigned)tool->number[2])
		       ? 0
		       : -1);
	free(value);
}

/* Repeats an attempt until it fails, and answers the errno; "ok" when the limit was reached. */
static void until_it_fails(struct tool *tool, bool (*attempt)(struct tool *tool, long i), long limit)
{
	for (long i = 0; i < limit; i++) {
		errno = 0;
		if (!attempt(tool, i)) {
			result(-1);
			return;
		}
	}
	result(0);
}

static bool write_one_more(struct tool *tool, long i)
{
	char path[1100];

	/* Put a hundred into each directory: C xenstored bounds what a directory may hold, too. */
	snprintf(path, sizeof(path), "%s/%ld/%ld", tool->word[1], i / 100, i);
	return xs_write(tool->xs, XBT_NULL, path, "", 0);
}

static bool write_one_more_beside(struct tool *tool, long i)
{
	char path[1100];

	snprintf(path, sizeof(path), "%s/%ld", tool->word[1], i);
	return xs_write(tool->xs, XBT_NULL, path, "", 0);
}

static bool watch_one_more(struct tool *tool, long i)
{
	char path[1100];

	snprintf(path, sizeof(path), "%s/%ld", tool->word[1], i);
	return xs_watch(tool->xs, path, "token");
}

static bool begin_one_more(struct tool *tool, long i)
{
	return xs_transaction_start(tool->xs) != XBT_NULL;
}

static bool bind_one_more(struct tool *tool, long i)
{
	return xenevtchn_bind_unbound_port(handle(tool), (uint32_t)tool->number[2]) >= 0;
}

/* xs-fill PREFIX LIMIT, xs-fill-directory PREFIX LIMIT, xs-watches PREFIX LIMIT, xs-transactions LIMIT,
 * bind-many HANDLE DOMID LIMIT */
static void xs_fill(struct tool *tool)
{
	until_it_fails(tool, write_one_more, tool->number[2]);
}

static void xs_fill_directory(struct tool *tool)
{
	until_it_fails(tool, write_one_more_beside, tool->number[2]);
}

static void xs_watches(struct tool *tool)
{
	until_it_fails(tool, watch_one_more, tool->number[2]);
}

static void xs_transactions(struct tool *tool)
{
	until_it_fails(tool, begin_one_more, tool->number[1]);
}

/* xs-watches-room PREFIX: how many watches can be set until one is refused, which costs a guest's program its
 * connection */
static void xs_watches_room(struct tool *tool)
{
	long count = 0;

	while (watch_one_more(tool, count))
		count++;
	result(count);
}

static void bind_many(struct tool *tool)
{
	until_it_fails(tool, bind_one_more, tool->number[3]);
}

/* bind-and-unbind HANDLE DOMID PORT TIMES: each time leaves the event that comes with the binding */
static void bind_and_unbind(struct tool *tool)
{
	int r = 0;

	for (long i = 0; r == 0 && i < tool->number[4]; i++) {
		int port = xenevtchn_bind_interdomain(handle(tool), (uint32_t)tool->number[2],
						      (evtchn_port_t)tool->number[3]);

		r = port < 0 ? -1 : xenevtchn_unbind(handle(tool), (evtchn_port_t)port);
	}
	result(r);
}

/* ping HANDLE PORT TIMES: notifies, and waits for an event before the next time */
static void ping(struct tool *tool)
{
	evtchn_port_t port = (evtchn_port_t)tool->number[2];
	long done = 0;

	while (done < tool->number[3] && xenevtchn_notify(handle(tool), port) == 0 &&
	       xenevtchn_pending(handle(tool)) == (xenevtchn_port_or_error_t)port &&
	       xenevtchn_unmask(handle(tool), port) == 0)
		done++;
	result(done == tool->number[3] ? done : -1);
}

/* pong HANDLE TIMES: answers so many events, of whatever port, each by one */
static void pong(struct tool *tool)
{
	long done = 0;

	while (done < tool->number[2]) {
		xenevtchn_port_or_error_t port = xenevtchn_pending(handle(tool));

		if (port < 0 || xenevtchn_unmask(handle(tool), (evtchn_port_t)port) < 0 ||
		    xenevtchn_notify(handle(tool), (evtchn_port_t)port) < 0)
			break;
		done++;
	}
	result(done == tool->number[2] ? done : -1);
}

/* For what libxenctrl says; opened when it is first needed. */
static xc_interface *control(struct tool *tool)
{
	if (!tool->xc)
		tool->xc = xc_interface_open(NULL, NULL, 0);
	return tool->xc;
}

/* domains FIRST COUNT: the domids in the list from there on */
static void domains(struct tool *tool)
{
	static xc_domaininfo_t info[64];
	int count = control(tool) ? xc_domain_getinfolist(tool->xc, (uint32_t)tool->number[1],
							  (unsigned)tool->number[2] % 65, info)
				  : -1;

	if (count < 0) {
		result(-1);
		return;
	}
	printf("ok");
	for (int i = 0; i < count; i++)
		printf(" %u", info[i].domain);
	putchar('\n');
}

/* domain-state DOMID: of the first domain from that number on: domid, dying, paused, hvm */
static void domain_state(struct tool *tool)
{
	xc_domaininfo_t info;
	int count = control(tool) ? xc_domain_getinfolist(tool->xc, (uint32_t)tool->number[1], 1, &info) : -1;

	if (count == 1)
		printf("ok %u %u %u %u\n", info.domain, !!(info.flags & XEN_DOMINF_dying),
		       !!(info.flags & XEN_DOMINF_paused), !!(info.flags & XEN_DOMINF_hvm_guest));
	else
		result(count);
}

/* domain-uuid DOMID */
static void domain_uuid(struct tool *tool)
{
	xc_domaininfo_t info;

	if (!control(tool) || xc_domain_getinfolist(tool->xc, (uint32_t)tool->number[1], 1, &info) != 1) {
		result(-1);
		return;
	}
	printf("ok ");
	for (unsigned i = 0; i < sizeof(info.handle); i++)
		printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", info.handle[i]);
	putchar('\n');
}

/* domain-single DOMID: what the version's function for a single domain says: the domid */
static void domain_single(struct tool *tool)
{
#if XEN_DOMCTL_INTERFACE_VERSION > 0x15
	xc_domaininfo_t info;

	if (control(tool) && xc_domain_getinfo_single(tool->xc, (uint32_t)tool->number[1], &info) == 0)
		printf("ok %u\n", info.domain);
#else
	xc_dominfo_t info;

	if (control(tool) && xc_domain_getinfo(tool->xc, (uint32_t)tool->number[1], 1, &info) == 1)
		printf("ok %u\n", info.domid);
#endif
	else
		result(-1);
}

/* port-status DOMID PORT: closed, unbound or interdomain, and the other end */
static void port_status(struct tool *tool)
{
	xc_evtchn_status_t status = {.dom = (domid_t)tool->number[1], .port = (evtchn_port_t)tool->number[2]};

	if (!control(tool) || xc_evtchn_status(tool->xc, &status) < 0)
		result(-1);
	else if (status.status == EVTCHNSTAT_interdomain)
		printf("ok interdomain %u %u\n", status.u.interdomain.dom, status.u.interdomain.port);
	else if (status.status == EVTCHNSTAT_unbound)
		printf("ok unbound %u\n", status.u.unbound.dom);
	else
		printf("ok %s\n", status.status == EVTCHNSTAT_closed ? "closed" : "other");
}

/* xs-event-on WORD MILLISECONDS: the next event whose path has the word in it */
static void xs_event_on(struct tool *tool)
{
	struct pollfd pollfd = {.fd = xs_fileno(tool->xs), .events = POLLIN};
	unsigned count;

	while (poll(&pollfd, 1, (int)tool->number[2]) == 1) {
		char **event = xs_read_watch(tool->xs, &count);

		if (event && strstr(event[XS_WATCH_PATH], tool->word[1])) {
			printf("ok %s\n", event[XS_WATCH_PATH]);
			free(event);
			return;
		}
		free(event);
	}
	printf("ok none\n");
}

/* Forks a child that holds what it has inherited, and does nothing else. */
static void fork_holder(struct tool *tool)
{
	pid_t pid = fork();

	if (pid == 0) {
		/* The child takes no part in our dialogue. */
		close(STDIN_FILENO);
		close(STDOUT_FILENO);
		close(STDERR_FILENO);
		for (;;)
			pause();
	}
	result(pid);
}

static long difference_ms(clockid_t one, clockid_t other)
{
	struct timespec a, b;

	clock_gettime(one, &a);
	clock_gettime(other, &b);
	return (a.tv_sec - b.tv_sec) * 1000 + (a.tv_nsec - b.tv_nsec) / 1000000;
}

/* clocks: by how many milliseconds two clocks that go on while the domain is saved are before two that
 * don't */
static void clocks(struct tool *tool)
{
	printf("ok %ld %ld\n", difference_ms(CLOCK_BOOTTIME, CLOCK_MONOTONIC),
	       difference_ms(CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE));
}

/* file PATH: its first word */
static void read_file(struct tool *tool)
{
	char text[256] = "";
	FILE *file = fopen(tool->word[1], "r");

	if (!file) {
		result(-1);
		return;
	}
	printf("ok %s\n", fscanf(file, "%255s", text) == 1 ? text : "");
	fclose(file);
}

static const struct command commands[] = {
	{"share", 4, share},
	{"share-notify", 4, share_notify},
	{"map", 5, map},
	{"map-notify", 5, map_notify},
	{"unshare", 2, take_back},
	{"unmap", 2, unmap},
	{"munmap", 4, plain_munmap},
	{"reopen", 1, reopen},
	{"poke", 4, poke},
	{"peek", 3, peek},
	{"count", 3, begin_to_count},
	{"counted", 2, end_counting},
	{"stamp", 2, begin_to_stamp},
	{"stamped", 1, end_stamping},
	{"word", 3, read_word},
	{"evtchn-open", 1, evtchn_open},
	{"evtchn-fdopen", 2, evtchn_fdopen},
	{"evtchn-close", 2, evtchn_close},
	{"nonblock", 2, nonblock},
	{"bind-unbound", 3, bind_unbound},
	{"bind-interdomain", 4, bind_interdomain},
	{"bind-virq", 2, bind_virq},
	{"unbind", 3, unbind},
	{"notify", 3, notify},
	{"pending", 2, pending},
	{"unmask", 3, unmask},
	{"poll", 3, poll_handle},
	{"xs-read", 2, xs_read_path},
	{"xs-write", 3, xs_write_path},
	{"xs-watch", 2, xs_watch_path},
	{"xs-event", 2, xs_event},
	{"xs-event-on", 3, xs_event_on},
	{"xs-rm", 2, xs_remove},
	{"xs-mkdir", 2, xs_make},
	{"xs-begin", 1, xs_begin},
	{"xs-commit", 1, xs_commit},
	{"xs-chmod", 3, xs_chmod},
	{"xs-list", 2, xs_list},
	{"xs-size", 3, xs_size},
	{"xs-fill", 3, xs_fill},
	{"xs-fill-directory", 3, xs_fill_directory},
	{"xs-watches", 3, xs_watches},
	{"xs-watches-room", 2, xs_watches_room},
	{"xs-transactions", 2, xs_transactions},
	{"bind-many", 4, bind_many},
	{"bind-and-unbind", 5, bind_and_unbind},
	{"ping", 4, ping},
	{"domains", 3, domains},
	{"domain-state", 2, domain_state},
	{"domain-uuid", 2, domain_uuid},
	{"domain-single", 2, domain_single},
	{"port-status", 3, port_status},
	{"pong", 3, pong},
	{"fork", 1, fork_holder},
	{"clocks", 1, clocks},
	{"file", 2, read_file},
};

static void run_line(struct tool *tool, char *line)
{
	char *save = NULL;

	tool->words = 0;
	for (char *word = strtok_r(line, " \n", &save); word && tool->words < 8;
	     word = strtok_r(NULL, " \n", &save)) {
		snprintf(tool->word[tool->words], sizeof(tool->word[0]), "%s", word);
		tool->number[tool->words++] = atol(word);
	}
	errno = 0;
	for (size_t i = 0; tool->words && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].name, tool->word[0]) == 0 && commands[i].words == tool->words) {
			commands[i].run(tool);
			return;
		}
	}
	printf("error usage\n");
}

int main(void)
{
	struct tool *tool = calloc(1, sizeof(*tool));
	char line[4096];

	if (!tool)
		return 1;
	tool->gntshr = xengntshr_open(NULL, 0);
	tool->gnttab = xengnttab_open(NULL, 0);
	tool->xs = xs_open(0);
	if (!tool->gntshr || !tool->gnttab || !tool->xs) {
		printf("error %d\n", errno);
		return 1;
	}
	printf("ok 0\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		run_line(tool, line);
		fflush(stdout);
	}
	for (unsigned i = 0; i < tool->evtchn_count; i++)
		xenevtchn_close(tool->evtchn[i]);
	xengntshr_close(tool->gntshr);
	xengnttab_close(tool->gnttab);
	xs_close(tool->xs);
	if (tool->xc)
		xc_interface_close(tool->xc);
	free(tool);
	return 0;
}
