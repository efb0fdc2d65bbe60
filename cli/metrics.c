/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/metrics.h"

#include <stdbool.h>
#include <string.h>

#include "cli/fields.h"
#include "cli/json.h"

enum type {
	COUNTER,
	GAUGE,
	INFO, /* a gauge of 1, whose labels are the news */
	HISTOGRAM,
	WORK, /* a counter of seconds, of a value in the daemon's units */
};

static const char *const type_names[] = {"counter", "gauge", "gauge", "histogram", "counter"};

#define UNITS_PER_SECOND 100000000 /* base/turns.h */

/* The members of an element that become labels, if it has them. */
static const struct label {
	const char *path, *name;
} domid_label[] = {{"peer.domid", "domid"}, {0}}, endpoint_label[] = {{"name", "endpoint"}, {0}},
  subscription_labels[] = {{"address", "address"}, {"uid", "uid"}, {0}},
  account_labels[] = {{"kind", "kind"}, {"id", "id"}, {"host", "host"}, {0}},
  link_labels[] = {{"peer.domid", "domid"},	{"peer.host", "host"}, {"peer.name", "name"},
		   {"peer.version", "version"}, {"role", "role"},      {0}},
  version_label[] = {{"version", "version"}, {"domid", "domid"}, {"name", "name"}, {0}};

static const struct metric {
	const char *name;
	enum type type;
	const char *help;
	const char *list; /* of the status; NULL: the status itself */
	const char
		*path; /* of the value in it, or in an element of the list; ends with '*': in each of them */
	const struct label *labels;
	const char *is; /* the value is 1 if the member is this text, else 0 */
} metrics[] = {
#define PER_LINK(name, type, help, path)                                                                     \
	{                                                                                                    \
		"xenmsg_link_" name, type, help, "links", path, domid_label, NULL                            \
	}
#define PER_ENDPOINT(name, type, help, path)                                                                 \
	{                                                                                                    \
		"xenmsg_endpoint_" name, type, help, "endpoints", path, endpoint_label, NULL                 \
	}
#define PER_SUBSCRIPTION(name, type, help, path)                                                             \
	{                                                                                                    \
		"xenmsg_subscription_" name, type, help, "subscriptions", path, subscription_labels, NULL    \
	}
#define PER_ACCOUNT(name, type, help, path)                                                                  \
	{                                                                                                    \
		"xenmsg_account_" name, type, help, "accounts", path, account_labels, NULL                   \
	}
#define ONE(name, type, help, path)                                                                          \
	{                                                                                                    \
		"xenmsg_" name, type, help, NULL, path, NULL, NULL                                           \
	}
	{"xenmsg_info", INFO, "The daemon's version, and the domain that it serves.", NULL, "version",
	 version_label, NULL},
	ONE("partial", GAUGE,
	    "1 if what belongs to others is left out, because the asker is no administrator of the daemon.",
	    "partial"),
	ONE("uptime_seconds", GAUGE, "How long the daemon has run.", "uptime_s"),
	ONE("store_connected", GAUGE, "1 if the daemon is connected to XenStore.", "store.connected"),
	ONE("store_stalled_seconds", GAUGE, "For how long XenStore hasn't answered.", "store.stalled_s"),
	ONE("store_lookups", GAUGE, "Domains that programs wait to have looked up.", "store.lookups"),
	ONE("grant_pages", GAUGE, "Pages that are granted to other domains.", "grants.used_pages"),
	ONE("grant_limit_pages", GAUGE, "Pages that the kernel lets be granted.", "grants.limit_pages"),
	ONE("links_waiting_for_pages", GAUGE, "Links that can't be made for want of pages.",
	    "grants.waiting_links"),
	ONE("policy_rules", GAUGE, "Rules in force.", "policy.rules"),
	ONE("policy_undecided_total", COUNTER,
	    "Requests that were told to try again, for want of a domain's name.", "policy.undecided"),
	ONE("cut_off_total", COUNTER,
	    "Sessions of programs that the daemon has cut off: they broke the protocol, or didn't read their answers.",
	    "cut_off"),
	ONE("work_seconds_total", WORK, "The daemon's work, as it counts it: about the CPU time.",
	    "time.units"),
	ONE("work_passes_total", COUNTER, "Passes of the daemon's event loop.", "time.passes"),
	{"xenmsg_links", GAUGE, "Links with other domains, also those that are down.", NULL, "totals.links",
	 NULL, NULL},
	ONE("endpoints", GAUGE, "Endpoints that are bound here.", "totals.endpoints"),
	ONE("clients", GAUGE, "Programs that are connected.", "totals.clients"),
	ONE("streams", GAUGE, "Byte streams of programs.", "totals.streams"),
	ONE("peers", GAUGE, "Domains that have or had a daemon.", "totals.peers"),
	ONE("pool_size", GAUGE,
	    "How much there is for all accounts, by resource (in bytes where it says so).", "pools.*size"),
	ONE("pool_used", GAUGE, "How much of it is used.", "pools.*used"),
	{"xenmsg_link_info", INFO,
	 "Names of the link's domain, its daemon's version, and whose memory it is.", "links", "peer",
	 link_labels, NULL},
	{"xenmsg_link_up", GAUGE, "1 if the link is up.", "links", "state", domid_label, "up"},
	{"xenmsg_link_away", GAUGE, "1 if the link is lost and may be resumed.", "links", "state",
	 domid_label, "away"},
	PER_LINK("resumes_total", COUNTER, "How often the link was lost and resumed.", "resumes"),
	PER_LINK("moves_total", COUNTER, "How often the link moved to larger or smaller rings.", "moves"),
	PER_LINK("ring_bytes", GAUGE, "Size of the ring towards the domain.", "ring_bytes"),
	PER_LINK("channels", GAUGE, "Channels that are open over the link.", "channels"),
	PER_LINK("sent_bytes_total", COUNTER, "Bytes of frames sent to the domain.", "tx.bytes"),
	PER_LINK("received_bytes_total", COUNTER, "Bytes of frames received from the domain.", "rx.bytes"),
	PER_LINK("sent_messages_total", COUNTER, "Messages sent to the domain.", "tx.messages"),
	PER_LINK("received_messages_total", COUNTER, "Messages received from the domain.", "rx.messages"),
	PER_LINK("sent_frames_total", COUNTER, "Frames sent to the domain.", "tx.frames"),
	PER_LINK("received_frames_total", COUNTER, "Frames received from the domain.", "rx.frames"),
	PER_LINK("queue_bytes", GAUGE, "Bytes sent that the domain's daemon hasn't processed yet.",
		 "unacked"),
	PER_LINK("refusals_total", COUNTER, "Requests of the domain that were over a limit.",
		 "usage.refused"),
	PER_LINK("round_trip_seconds", HISTOGRAM, "Time until the domain's daemon answered a ping.",
		 "round_trips"),
	PER_ENDPOINT("queue_bytes", GAUGE, "Bytes that wait for the program that has bound the endpoint.",
		     "queued"),
	PER_ENDPOINT("opens_total", COUNTER,
		     "Channels for messages, calls and streams that were opened to the endpoint.", "opened"),
	PER_ENDPOINT(
		"refusals_total", COUNTER,
		"Channels to the endpoint that were refused, by policy, over a limit or as of the wrong kind.",
		"refused"),
	PER_ENDPOINT("messages_total", COUNTER, "Messages and calls that were sent to the endpoint.",
		     "messages"),
	PER_ENDPOINT("received_bytes_total", COUNTER,
		     "Bytes of messages, calls and streams that were sent to the endpoint.", "bytes_to"),
	PER_ENDPOINT("sent_bytes_total", COUNTER,
		     "Bytes of replies and streams that came back from the endpoint.", "bytes_from"),
	PER_ENDPOINT("taken_seconds", HISTOGRAM,
		     "Time until messages and calls were taken, from when this daemon had them.", "taken"),
	PER_ENDPOINT("answered_seconds", HISTOGRAM,
		     "Time until calls were answered or given up, from when this daemon had them.",
		     "answered"),
	PER_ENDPOINT("published_total", COUNTER, "Messages that were published on the topic.",
		     "topic.published"),
	PER_ENDPOINT("subscribers", GAUGE,
		     "Subscribers of the topic: users of domains, however many programs each has.",
		     "topic.count"),
	PER_ENDPOINT("delivered_total", COUNTER, "Messages of the topic on their way to subscribers.",
		     "topic.delivered"),
	PER_ENDPOINT("missed_total", COUNTER,
		     "Messages of the topic that subscribers were too slow for, and were told so.",
		     "topic.missed"),
	PER_SUBSCRIPTION("programs", GAUGE, "Programs of a user here that subscribe to a topic.", "count"),
	PER_SUBSCRIPTION("delivered_total", COUNTER, "Messages on their way to these programs, together.",
			 "delivered"),
	PER_SUBSCRIPTION("missed_total", COUNTER, "Messages that these programs were told they have missed.",
			 "missed"),
	PER_SUBSCRIPTION(
		"gaps_total", COUNTER,
		"How often they were told that perhaps something is missing, and nobody knows how much.",
		"gaps"),
	PER_ACCOUNT(
		"used", GAUGE,
		"How much of a resource a user (kind uid), or a domain or another host (kind peer) holds.",
		"*used"),
	PER_ACCOUNT("available", GAUGE, "How much more of it the account could have now.", "*available"),
	PER_ACCOUNT("refusals_total", COUNTER, "Requests of the account that were over a limit.", "*refused"),
	PER_ACCOUNT("sent_bytes_total", COUNTER, "Bytes of frames that the account has sent to this daemon.",
		    "sent.bytes"),
	PER_ACCOUNT("sent_messages_total", COUNTER, "Messages that the account has sent to this daemon.",
		    "sent.messages"),
	PER_ACCOUNT("work_seconds_total", WORK,
		    "The daemon's work for it, as it counts it: about the CPU time.", "time.units"),
	PER_ACCOUNT(
		"rests_total", COUNTER,
		"How often it got no turns for a while, since a call into the kernel for it took too long.",
		"time.rests"),
	PER_ACCOUNT("cut_off_total", COUNTER, "Sessions of the user that the daemon has cut off.", "cut_off"),
};
#define METRICS (sizeof(metrics) / sizeof(metrics[0]))

static const struct metric up = {"xenmsg_up", GAUGE, "1 if the daemon has answered.", NULL, "", NULL, NULL};

/* Writes a label's value as the format wants it. */
static void write_escaped(const char *text, FILE *out)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', out);
		if (*text == '\n')
			fputs("\\n", out);
		else
			fputc(*text, out);
	}
}

static void write_label(const char *name, const char *value, bool *first, FILE *out)
{
	fprintf(out, "%s%s=\"", *first ? "{" : ",", name);
	write_escaped(value, out);
	fputc('"', out);
	*first = false;
}

/* One value with what it is labelled with: an element's labels, and those of the sample alone. */
struct sample {
	const struct metric *metric;
	const struct metrics_source *source; /* whose daemon it is */
	struct json_object *element;
	const char *suffix;	     /* of the name */
	const char *label, *labeled; /* NULL: none */
};

static void write_sample(const struct sample *sample, const char *value, FILE *out)
{
	bool first = true;

	fprintf(out, "%s%s", sample->metric->name, sample->suffix);
	if (sample->source->domain) {
		write_label("domain", sample->source->domain, &first, out);
		/* A link's has the label `domid` already. */
		write_label("of_domid", sample->source->domid, &first, out);
	}
	for (const struct label *label = sample->metric->labels; label && label->name; label++) {
		const char *text =
			json_object_get_string(fields_at(sample->element, label->path, strlen(label->path)));

		if (text)
			write_label(label->name, text, &first, out);
	}
	if (sample->label)
		write_label(sample->label, sample->labeled, &first, out);
	fprintf(out, "%s %s\n", first ? "" : "}", value);
}

/* Writes a whole number of microseconds as seconds. */
static const char *seconds(struct json_object *us, char text[32])
{
	snprintf(text, 32, "%.9g", (double)json_object_get_int64(us) / 1e6);
	return text;
}

static void write_work(const struct sample *sample, struct json_object *units, FILE *out)
{
	int64_t count = json_object_get_int64(units);
	char text[48];

	snprintf(text, sizeof(text), "%lld.%08lld", (long long)(count / UNITS_PER_SECOND),
		 (long long)(count % UNITS_PER_SECOND));
	write_sample(sample, text, out);
}

static void write_histogram(struct sample sample, struct json_object *value, FILE *out)
{
	struct json_object *buckets = at(value, "buckets"), *count = at(value, "count");
	char text[32], reached[24];

	if (!json_object_is_type(buckets, json_type_array) || !json_object_is_type(count, json_type_int))
		return;
	sample.suffix = "_bucket";
	sample.label = "le";
	fields_foreach(buckets, bucket) {
		sample.labeled = seconds(at(bucket, "up_to_us"), text);
		snprintf(reached, sizeof(reached), "%" PRId64, number_at(bucket, "count"));
		write_sample(&sample, reached, out);
	}
	sample.labeled = "+Inf";
	write_sample(&sample, json_object_get_string(count), out);
	sample.label = NULL;
	sample.suffix = "_sum";
	write_sample(&sample, seconds(at(value, "sum_us"), text), out);
	sample.suffix = "_count";
	write_sample(&sample, json_object_get_string(count), out);
}

static void write_value(const struct sample *sample, struct json_object *value, FILE *out)
{
	const struct metric *metric = sample->metric;

	if (!value)
		return;
	if (metric->type == HISTOGRAM)
		write_histogram(*sample, value, out);
	else if (metric->type == WORK)
		write_work(sample, value, out);
	else if (metric->type == INFO)
		write_sample(sample, "1", out);
	else if (metric->is)
		write_sample(sample, strcmp(json_object_get_string(value), metric->is) ? "0" : "1", out);
	else if (json_object_is_type(value, json_type_boolean))
		write_sample(sample, json_object_get_boolean(value) ? "1" : "0", out);
	else if (json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double))
		write_sample(sample, json_object_get_string(value), out);
}

/* Writes a value for each resource: for "*used" of an account, account.clients.used, .endpoints.used... */
static void write_resources(struct sample *sample, struct json_object *resources, const char *name, FILE *out)
{
	if (!json_object_is_type(resources, json_type_object))
		return;
	sample->label = "resource";
	json_object_object_foreach(resources, key, resource) {
		sample->labeled = key;
		write_value(sample, at(resource, name), out);
	}
}

static void write_of(const struct metric *metric, const struct metrics_source *source,
		     struct json_object *element, FILE *out)
{
	struct sample sample = {.metric = metric, .source = source, .element = element, .suffix = ""};
	const char *star = strchr(metric->path, '*');
	struct json_object *of =
		fields_at(element, metric->path, star ? (size_t)(star - metric->path) : strlen(metric->path));

	if (!json_object_is_type(element, json_type_object))
		return;
	if (star)
		write_resources(&sample, of, star + 1, out);
	else
		write_value(&sample, of, out);
}

static void write_head(const struct metric *metric, FILE *out)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metric->name, metric->help, metric->name,
		type_names[metric->type]);
}

static bool is_cut(struct json_object *status)
{
	static const char *const lists[] = {"links", "endpoints", "subscriptions", "accounts"};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		if (total_of(status, lists[i]) > listed_in(status, lists[i]))
			return true;
	return false;
}

/* Writes what the metric is of one daemon. */
static void write_of_daemon(const struct metric *metric, const struct metrics_source *source, FILE *out)
{
	struct json_object *list = metric->list ? at(source->status, metric->list) : NULL;

	if (!metric->list)
		write_of(metric, source, source->status, out);
	for (size_t i = 0; i < length_of(list); i++)
		write_of(metric, source, json_object_array_get_idx(list, i), out);
}

void metrics_write_host(const struct metrics_source *sources, size_t count, FILE *out)
{
	bool any = false;

	write_head(&up, out);
	for (size_t i = 0; i < count; i++) {
		const struct sample is_up = {.metric = &up, .source = &sources[i], .suffix = ""};

		write_sample(&is_up, sources[i].status ? "1" : "0", out);
		any = any || sources[i].status;
	}
	for (size_t i = 0; i < METRICS && any; i++) {
		write_head(&metrics[i], out);
		for (size_t j = 0; j < count; j++)
			write_of_daemon(&metrics[i], &sources[j], out);
	}
}

void metrics_write(struct json_object *status, FILE *out)
{
	const struct metrics_source source = {.domain = NULL, .status = status};

	if (status && is_partial(status))
		fputs("# Only what is the asker's, and what isn't about anybody: the rest is for " WHO_SEES_ALL
		      ".\n",
		      out);
	if (status && is_cut(status))
		fputs("# Of each list the 100 entries that matter most; --all has every one.\n", out);
	metrics_write_host(&source, 1, out);
}
