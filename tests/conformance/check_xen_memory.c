/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "tests/conformance/check_xen.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <xendevicemodel.h>
#include <xenforeignmemory.h>

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

/* map-notify-read DOMID REF OFFSET PORT: the same, for reading alone */
static void map_notify_read(struct tool *tool)
{
	add_memory(tool,
		   xengnttab_map_grant_ref_notify(tool->gnttab, (uint32_t)tool->number[1],
						  (uint32_t)tool->number[2], PROT_READ,
						  (uint32_t)tool->number[3], (evtchn_port_t)tool->number[4]),
		   1, NULL);
}

/* gnttab-open FLAGS: one more handle, which is closed again */
static void open_with_flags(struct tool *tool)
{
	xengnttab_handle *handle = xengnttab_open(NULL, (unsigned)tool->number[1]);

	result(handle ? xengnttab_close(handle) : -1);
}

/* copy DOMID REF OFFSET BYTES: from there to a buffer of our own: the status, and the first byte; copy-to:
 * the other way, of bytes that are 7 */
static void copy_either_way(struct tool *tool, bool there)
{
	static unsigned char buffer[4096];
	xengnttab_grant_copy_segment_t segment = {.len = (uint16_t)tool->number[4]};

	memset(buffer, there ? 7 : 0, sizeof(buffer));
	if (there) {
		segment.source.virt = buffer;
		segment.dest.foreign.domid = (domid_t)tool->number[1];
		segment.dest.foreign.ref = (uint32_t)tool->number[2];
		segment.dest.foreign.offset = (uint16_t)tool->number[3];
		segment.flags = GNTCOPY_dest_gref;
	} else {
		segment.dest.virt = buffer;
		segment.source.foreign.domid = (domid_t)tool->number[1];
		segment.source.foreign.ref = (uint32_t)tool->number[2];
		segment.source.foreign.offset = (uint16_t)tool->number[3];
		segment.flags = GNTCOPY_source_gref;
	}
	if (xengnttab_grant_copy(tool->gnttab, 1, &segment) < 0)
		result(-1);
	else
		printf("ok %d %u\n", segment.status, buffer[0]);
}

static void copy_from(struct tool *tool)
{
	copy_either_way(tool, false);
}

static void copy_to(struct tool *tool)
{
	copy_either_way(tool, true);
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

static xenforeignmemory_handle *foreign_memory(void)
{
	static xenforeignmemory_handle *memory;

	if (!memory)
		memory = xenforeignmemory_open(NULL, 0);
	return memory;
}

/* foreign-map DOMID WRITABLE FRAME...: keeps those frames mapped, and answers its number and what became of
 * each */
static void map_foreign(struct tool *tool)
{
	const int prot = tool->number[2] ? PROT_READ | PROT_WRITE : PROT_READ;
	const uint32_t pages = (uint32_t)(tool->words - 3);
	xen_pfn_t frames[8];
	int errors[8] = {0};

	for (uint32_t i = 0; i < pages && i < 8; i++)
		frames[i] = (xen_pfn_t)tool->number[3 + i];
	tool->memory[tool->memory_count].start = xenforeignmemory_map(
		foreign_memory(), (uint32_t)tool->number[1], prot, pages, frames, errors);
	if (!tool->memory[tool->memory_count].start) {
		result(-1);
		return;
	}
	tool->memory[tool->memory_count].pages = pages;
	printf("ok %u", tool->memory_count++);
	for (uint32_t i = 0; i < pages; i++)
		printf(" %d", errors[i]);
	putchar('\n');
}

static void unmap_foreign(struct tool *tool)
{
	result(xenforeignmemory_unmap(foreign_memory(), tool->memory[tool->number[1]].start,
				      tool->memory[tool->number[1]].pages));
}

/* map-resource DOMID TYPE ID FRAME: one frame of it, which is unmapped again: what the first word there is */
static void map_resource(struct tool *tool)
{
	void *page = NULL;
	xenforeignmemory_resource_handle *resource = xenforeignmemory_map_resource(
		foreign_memory(), (domid_t)tool->number[1], (unsigned)tool->number[2],
		(unsigned)tool->number[3], (unsigned long)tool->number[4], 1, &page, PROT_READ, 0);

	if (!resource) {
		result(-1);
		return;
	}
	result(*(volatile uint16_t *)page);
	xenforeignmemory_unmap_resource(foreign_memory(), resource);
}

/* foreign-restrict DOMID: what all that maps foreign memory may map from now on */
static void restrict_foreign(struct tool *tool)
{
	result(xenforeignmemory_restrict(foreign_memory(), (domid_t)tool->number[1]));
}

/* ioreq-server DOMID: makes one */
static void ioreq_server(struct tool *tool)
{
	xendevicemodel_handle *models = xendevicemodel_open(NULL, 0);
	ioservid_t id;
	int r = models ? xendevicemodel_create_ioreq_server(models, (domid_t)tool->number[1], 0, &id) : -1;
	int error = errno;

	if (r == 0)
		xendevicemodel_destroy_ioreq_server(models, (domid_t)tool->number[1], id);
	if (models)
		xendevicemodel_close(models);
	errno = error;
	result(r);
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

const struct tool_command memory_commands[] = {
	{"share", 4, share},
	{"share-notify", 4, share_notify},
	{"map", 5, map},
	{"map-notify", 5, map_notify},
	{"map-notify-read", 5, map_notify_read},
	{"gnttab-open", 2, open_with_flags},
	{"copy", 5, copy_from},
	{"copy-to", 5, copy_to},
	{"unshare", 2, take_back},
	{"unmap", 2, unmap},
	{"munmap", 4, plain_munmap},
	{"foreign-map", 4, map_foreign},
	{"foreign-map", 5, map_foreign},
	{"foreign-map", 6, map_foreign},
	{"foreign-unmap", 2, unmap_foreign},
	{"map-resource", 5, map_resource},
	{"foreign-restrict", 2, restrict_foreign},
	{"ioreq-server", 2, ioreq_server},
	{"reopen", 1, reopen},
	{"poke", 4, poke},
	{"peek", 3, peek},
	{"count", 3, begin_to_count},
	{"counted", 2, end_counting},
	{"stamp", 2, begin_to_stamp},
	{"stamped", 1, end_stamping},
	{"word", 3, read_word},
	{0},
};
