/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/metrics.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "cli/fields.h"

/* One metric with its samples, collected first, since Prometheus wants all samples of a name together. */
struct metric {
	char *name;
	bool counter;
	char *samples; /* complete lines of text */
	size_t size;
	UT_hash_handle hh;
};

struct metrics {
	struct json_object *status;
	struct metric *by_name;
	bool is_cut; /* the daemon has left out entries of a list */
};

/* The members that identify an element of a list. Nested lists are named by their path. */
static const struct {
	const char *list;
	const char *path, *label;
} labels[] = {
	{"links", "peer.domid", "domid"}, {"links", "peer.name", "name"}, {"endpoints", "name", "endpoint"},
	{"endpoints", "uid", "uid"},	  {"endpoints", "pid", "pid"},	  {"clients", "uid", "uid"},
	{"clients", "pid", "pid"},	  {"clients", "comm", "comm"},	  {"peers", "domid", "domid"},
	{"peers", "name", "name"},	  {"denied", "from", "from"},	  {"denied", "to", "to"},
	{"accounts", "kind", "kind"},	  {"accounts", "id", "id"},
};
#define LABELS (sizeof(labels) / sizeof(labels[0]))

/* Names of values that only grow. */
static const char *const traffic_counters[] = {"messages", "bytes", "frames", "notifications", NULL};
static const char *const counters[] = {"resumes", "count", "units", "passes", "undecided", NULL};

static void *must(void *memory)
{
	if (!memory)
		abort();
	return memory;
}

static char *join(const char *a, const char *between, const char *b)
{
	size_t size = strlen(a) + strlen(between) + strlen(b) + 1;
	char *text = must(malloc(size));

	snprintf(text, size, "%s%s%s", a, between, b);
	return text;
}

static struct json_object *member(struct json_object *object, const char *path)
{
	const char *dot = strchr(path, '.');
	char first[32];

	if (!dot)
		return json_object_object_get(object, path);
	snprintf(first, sizeof(first), "%.*s", (int)(dot - path), path);
	object = json_object_object_get(object, first);
	return object && json_object_is_type(object, json_type_object) ? member(object, dot + 1) : NULL;
}

/* Escapes a label's value as the format wants it. */
static char *quoted(const char *text)
{
	char *out = must(malloc(strlen(text) * 2 + 1)), *at = out;

	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			*at++ = '\\';
		if (*text == '\n') {
			*at++ = '\\';
			*at++ = 'n';
		} else {
			*at++ = *text;
		}
	}
	*at = '\0';
	return out;
}

/* Returns `name="value",…` for an element of a list. */
static char *labels_of(const char *list, struct json_object *element)
{
	char *text = must(strdup(""));

	for (size_t i = 0; i < LABELS; i++) {
		struct json_object *value;
		char *escaped, *label, *longer;

		if (strcmp(labels[i].list, list) != 0)
			continue;
		value = member(element, labels[i].path);
		if (!value)
			continue;
		escaped = quoted(json_object_get_string(value));
		label = join(labels[i].label, "=\"", escaped);
		longer = join(text, *text ? "," : "", label);
		free(escaped);
		free(label);
		free(text);
		text = join(longer, "\"", "");
		free(longer);
	}
	return text;
}

static bool is_label(const char *list, const char *name)
{
	for (size_t i = 0; list && i < LABELS; i++)
		if (strcmp(labels[i].list, list) == 0 && strcmp(labels[i].path, name) == 0)
			return true;
	return false;
}

static bool is_one_of(const char *const *names, const char *name)
{
	for (; *names; names++)
		if (strcmp(*names, name) == 0)
			return true;
	return false;
}

static bool is_counter(const char *path, const char *name)
{
	/* A link's ring_bytes and a queue's bytes are no counters: these names count only under tx and rx. */
	if ((strstr(path, "_tx") || strstr(path, "_rx")) && is_one_of(traffic_counters, name))
		return true;
	return is_one_of(counters, name);
}

static void add_sample(struct metrics *metrics, const char *path, const char *name, const char *label,
		       const char *value)
{
	bool counter = is_counter(path, name);
	char *plain = join(path, "_", name), *full = join(plain, counter ? "_total" : "", "");
	struct metric *metric;
	char line[1024];
	int size;

	HASH_FIND_STR(metrics->by_name, full, metric);
	if (!metric) {
		metric = must(calloc(1, sizeof(*metric)));
		metric->name = must(strdup(full));
		metric->counter = counter;
		HASH_ADD_KEYPTR(hh, metrics->by_name, metric->name, strlen(metric->name), metric);
	}
	if (*label)
		size = snprintf(line, sizeof(line), "%s{%s} %s\n", full, label, value);
	else
		size = snprintf(line, sizeof(line), "%s %s\n", full, value);
	if (size > 0 && (size_t)size < sizeof(line)) {
		metric->samples = must(realloc(metric->samples, metric->size + (size_t)size + 1));
		memcpy(metric->samples + metric->size, line, (size_t)size + 1);
		metric->size += (size_t)size;
	}
	free(plain);
	free(full);
}

static void walk(struct metrics *metrics, const char *path, const char *list, const char *label,
		 struct json_object *object);

static void walk_list(struct metrics *metrics, const char *path, const char *name, struct json_object *array)
{
	char *deeper = join(path, "_", name);
	char count[32];

	snprintf(count, sizeof(count), "%zu", total_of(metrics->status, name));
	add_sample(metrics, deeper, "number", "", count);
	if (total_of(metrics->status, name) > json_object_array_length(array))
		metrics->is_cut = true;
	for (size_t i = 0; i < json_object_array_length(array); i++) {
		struct json_object *element = json_object_array_get_idx(array, i);
		char *label;

		if (!json_object_is_type(element, json_type_object))
			continue;
		label = labels_of(name, element);
		/* Without a label that tells the elements apart, their samples would be duplicates. */
		if (*label)
			walk(metrics, deeper, name, label, element);
		free(label);
	}
	free(deeper);
}

static void walk(struct metrics *metrics, const char *path, const char *list, const char *label,
		 struct json_object *object)
{
	json_object_object_foreach(object, name, value) {
		char *deeper;

		if (is_label(list, name))
			continue;
		switch (json_object_get_type(value)) {
		case json_type_boolean:
			add_sample(metrics, path, name, label, json_object_get_boolean(value) ? "1" : "0");
			break;
		case json_type_int:
		case json_type_double:
			add_sample(metrics, path, name, label, json_object_get_string(value));
			break;
		case json_type_object:
			/* Skip the totals, whose numbers are those of the lists. */
			if (strcmp(name, list ? "peer" : "totals") == 0)
				break;
			deeper = join(path, "_", name);
			walk(metrics, deeper, list, label, value);
			free(deeper);
			break;
		case json_type_array:
			if (!list)
				walk_list(metrics, path, name, value);
			break;
		default:
			if (list && strcmp(name, "state") == 0) {
				char *escaped = quoted(json_object_get_string(value));
				char *state = join("state=\"", escaped, "\""), *all = join(label, ",", state);

				add_sample(metrics, path, "state", all, "1");
				free(escaped);
				free(state);
				free(all);
			}
		}
	}
}

void metrics_write(struct json_object *status, FILE *out)
{
	struct metrics metrics = {.status = status};
	struct metric *metric, *next;

	if (is_partial(status))
		fputs("# Only what is the asker's, and what isn't about anybody: the rest is for " WHO_SEES_ALL
		      ".\n",
		      out);
	if (json_object_is_type(status, json_type_object))
		walk(&metrics, "xenmsg", NULL, "", status);
	if (metrics.is_cut)
		fputs("# Of each list the 100 entries that matter most; --all has every one.\n", out);
	HASH_ITER(hh, metrics.by_name, metric, next) {
		fprintf(out, "# TYPE %s %s\n%s", metric->name, metric->counter ? "counter" : "gauge",
			metric->samples ? metric->samples : "");
		HASH_DEL(metrics.by_name, metric);
		free(metric->name);
		free(metric->samples);
		free(metric);
	}
}
