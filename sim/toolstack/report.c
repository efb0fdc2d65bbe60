/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reports what `xensim list` prints. Tests search it for anything left over. */
#include "config.h"

#include "sim/toolstack/admin_internal.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

struct usage {
	unsigned granted, entries, limit, mapped_by_others, mappings;
	unsigned ports, port_limit, handles, processes;
	struct sim_store_stats store;
};

static void measure(struct hv_domain *domain, struct hv_process_table *table, struct usage *usage)
{
	const struct hv_client *client;
	const struct hv_handle *handle;

	memset(usage, 0, sizeof(*usage));
	usage->granted = domain->shared_pages;
	usage->entries = HASH_COUNT(domain->refs) - (domain->kernels_pages ? domain->kernels_pages->refs : 0);
	usage->mapped_by_others = domain->foreign_maps;
	usage->ports = domain->port_count;
	usage->port_limit = domain->port_limit;
	DL_FOREACH(domain->clients, client) {
		usage->mappings += hv_grant_mapped_pages(client);
		DL_FOREACH(client->handles, handle)
			usage->handles++;
	}
	if (domain->state == HV_ZOMBIE)
		return;
	DL_FOREACH(domain->orphans, handle)
		usage->handles++;
	usage->limit = hv_grant_limit(domain);
	usage->processes = (unsigned)hv_processes_count(table, domain);
	sim_store_stats(domain->hv->store, domain->domid, &usage->store);
}

static void add_number(struct json_object *object, const char *key, unsigned long value)
{
	json_object_object_add(object, key, json_object_new_int64((int64_t)value));
}

static struct json_object *domain_json(struct hv_domain *domain, struct hv_process_table *table)
{
	struct json_object *object = json_object_new_object(), *part;
	struct usage usage;

	measure(domain, table, &usage);
	add_number(object, "domid", domain->domid);
	json_object_object_add(object, "name", json_object_new_string(domain->name));
	json_object_object_add(object, "uuid", json_object_new_string(domain->uuid));
	json_object_object_add(object, "type", json_object_new_string(hv_type_name(domain->type)));
	json_object_object_add(object, "state", json_object_new_string(hv_state_name(domain)));
	add_number(object, "processes", usage.processes);
	part = json_object_new_object();
	add_number(part, "used_pages", usage.granted);
	add_number(part, "entries", usage.entries);
	add_number(part, "limit_pages", usage.limit);
	add_number(part, "mapped_by_others", usage.mapped_by_others);
	json_object_object_add(object, "grants", part);
	add_number(object, "mapped_pages", usage.mappings);
	part = json_object_new_object();
	add_number(part, "used", usage.ports);
	add_number(part, "limit", usage.port_limit);
	add_number(part, "handles", usage.handles);
	json_object_object_add(object, "event_channels", part);
	part = json_object_new_object();
	add_number(part, "nodes", usage.store.nodes);
	add_number(part, "watches", usage.store.watches);
	add_number(part, "transactions", usage.store.transactions);
	add_number(part, "connections", usage.store.connections);
	add_number(part, "requests", usage.store.requests);
	add_number(part, "writes", usage.store.writes);
	add_number(part, "events", usage.store.events);
	json_object_object_add(object, "xenstore", part);
	return object;
}

static int by_domid(struct hv_domain *a, struct hv_domain *b)
{
	return a->domid < b->domid ? -1 : a->domid > b->domid;
}

static struct json_object *lines_json(const char *text)
{
	struct json_object *array = json_object_new_array();

	while (text && *text) {
		size_t length = strcspn(text, "\n");

		json_object_array_add(array, json_object_new_string_len(text, (int)length));
		text += length + (text[length] == '\n');
	}
	return array;
}

struct json_object *hv_report_json(struct hv *hv)
{
	struct json_object *report = json_object_new_object(), *domains = json_object_new_array();
	struct hv_process_table *table;
	struct hv_domain *domain, *next;
	unsigned zombies = 0;

	hv_orphans_check(hv);
	table = hv_process_table_new();
	HASH_SORT(hv->domains, by_domid);
	HASH_ITER(hh, hv->domains, domain, next) {
		zombies += domain->state == HV_ZOMBIE;
		json_object_array_add(domains, domain_json(domain, table));
	}
	for (domain = hv->suspended; domain; domain = domain->next_suspended)
		json_object_array_add(domains, domain_json(domain, table));
	hv_process_table_free(table);
	json_object_object_add(report, "dir", json_object_new_string(hv->dir));
	json_object_object_add(report, "domains", domains);
	add_number(report, "zombies", zombies);
	json_object_object_add(report, "store_stalled", json_object_new_boolean(hv->store_stalled));
	json_object_object_add(report, "kernel_log", lines_json(hv->kernel_log));
	return report;
}

static void print_domain(FILE *out, struct hv_domain *domain, struct hv_process_table *table)
{
	struct usage usage;

	measure(domain, table, &usage);
	fprintf(out, "%5u  %-16s %-5s %-9s %9u %6u/%-6u %6u %6u/%-5u %6u %7u %8lu %7lu\n", domain->domid,
		domain->name, hv_type_name(domain->type), hv_state_name(domain), usage.processes,
		usage.granted, usage.limit, usage.mappings, usage.ports, usage.port_limit, usage.store.nodes,
		usage.store.watches, usage.store.requests, usage.store.events);
}

char *hv_report_text(struct hv *hv)
{
	struct hv_process_table *table;
	struct hv_domain *domain, *next;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	hv_orphans_check(hv);
	table = hv_process_table_new();
	fprintf(out,
		"domid  name             type  state     processes  granted/limit  mapped  ports/limit  "
		"nodes watches requests  events\n");
	HASH_SORT(hv->domains, by_domid);
	HASH_ITER(hh, hv->domains, domain, next)
		print_domain(out, domain, table);
	for (domain = hv->suspended; domain; domain = domain->next_suspended)
		print_domain(out, domain, table);
	hv_process_table_free(table);
	if (hv->kernel_log)
		fprintf(out, "\nkernel log:\n%s", hv->kernel_log);
	fclose(out);
	return text;
}
