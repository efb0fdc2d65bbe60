/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The host's policy. The first byte says what the others are:
 *
 *   F  a file of domain 0: it is taken or refused with its line, and what a guest is told of it decides in
 *      the guest as the whole does in domain 0
 *   S  what domain 0 tells a guest, in frames of as many bytes as each frame's first byte says: it is taken
 *      or refused, and what was refused changes no rule
 */

#include "daemon/policy/host_policy.h"
#include "daemon/policy/host_told.h"
#include "tests/conf_text.h"
#include "tests/fuzz/fuzz.h"
#include "wire/frame.h"

#define COUNT(list) (sizeof(list) / sizeof(*(list)))

static const char *const endpoints[] = {"print", "scan-7", "a"};

static void changed(void *userdata, uint32_t domid)
{
	check(domid <= DOMID_MAX);
}

/* --- a file ------------------------------------------------------------------------------------- */

static const struct policy_subject senders[] = {
	{.domid = 3, .name = "web", .uuid = "0f0e0d0c-0b0a-4908-8706-050403020100"},
	{.domid = 4, .name = "db", .uuid = ""},
	{.domid = 5, .name = "", .uuid = "", .names_unknown = true},
	{.domid = 6, .name = "", .uuid = "", .host = "hostb"},
	{.domid = 7, .name = "web", .uuid = "", .host = "hosta"},
	{.domid = 7, .name = "", .uuid = "", .host = "hosta", .names_unknown = true},
};

static struct policy_subject tagged(const struct policy *policy, const struct policy_subject *subject)
{
	struct policy_subject with = *subject;

	if (!with.host && !with.names_unknown)
		with.tags = host_policy_tags(policy, with.name, with.uuid, ",fuzz,web,");
	return with;
}

/* Tells a guest its share, in frames that are as small as those of the daemon. */
static struct host_told *tell(char *text, size_t size)
{
	struct host_told *told = host_told_new(changed, NULL);
	uint8_t payload[496];
	size_t sent = 0;
	char *error = NULL;
	int r;

	check(told != NULL);
	do {
		size_t part = size - sent < 492 ? size - sent : 492;
		const struct frame_policy frame = {.flags = (sent ? 0 : POLICY_REPLACES) |
							    (sent + part < size ? POLICY_MORE : 0),
						   .text = {text + sent, part}};

		r = host_told_take(told, payload, frame_policy_encode(&frame, payload), &error);
		sent += part;
	} while (r == HOST_TOLD_PART);
	check(r == HOST_TOLD_RULES && !error);
	return told;
}

static void compare(const struct policy *policy, const struct policy_subject *to)
{
	char *text = NULL, why[256];
	struct host_told *told;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	int r = host_policy_write_rules(policy, to, file, why, sizeof(why));

	for (size_t i = 0; r == 0 && i < COUNT(senders); i++) {
		struct policy_subject from = tagged(policy, &senders[i]);

		if (!from.host && !from.names_unknown && host_policy_needs_domains(policy, to))
			host_policy_write_domain(policy, to, &from, file);
		free((void *)(uintptr_t)from.tags);
	}
	fclose(file);
	if (r == 0) {
		told = tell(text, size);
		for (size_t i = 0; i < COUNT(senders); i++)
			for (size_t j = 0; j < COUNT(endpoints); j++) {
				struct policy_subject from = tagged(policy, &senders[i]), seen = senders[i];
				struct host_decision here =
					host_policy_decide(policy, &from, to, endpoints[j]);
				struct host_decision there;

				if (!seen.host)
					host_told_name(told, &seen);
				there = host_policy_decide(host_told_policy(told), &seen, NULL, endpoints[j]);
				check(here.outcomes == there.outcomes);
				check(!here.rule == !there.rule && !here.unsure == !there.unsure);
				free((void *)(uintptr_t)from.tags);
			}
		host_told_free(told);
	}
	free(text);
}

static void take_file(const uint8_t *data, size_t size)
{
	static const struct policy_subject receiver = {.domid = 2, .name = "sql", .uuid = ""};
	struct policy *policy = NULL;
	struct policy_subject to;
	char *error;
	int r;

	conf_text = fmemopen((void *)(uintptr_t)data, size, "r");
	check(conf_text != NULL);
	r = host_policy_load(&policy, "fuzz", &error);
	fclose(conf_text);
	if (r == -EINVAL)
		check(error && !strncmp(error, "fuzz:", 5) && !policy);
	if (r == 0) {
		to = tagged(policy, &receiver);
		compare(policy, &to);
		free((void *)(uintptr_t)to.tags);
		policy_free(policy);
	}
	free(error);
}

/* --- a share ------------------------------------------------------------------------------------ */

static void take_frames(const uint8_t *data, size_t size)
{
	struct host_told *told = host_told_new(changed, NULL);

	check(told != NULL);
	while (size > 0) {
		const struct policy *before = host_told_policy(told);
		uint32_t length = data[0] < size - 1 ? data[0] : (uint32_t)size - 1;
		char *error = NULL;
		int r = host_told_take(told, data + 1, length, &error);

		check(r >= 0 || r == -EPROTO);
		check((r == HOST_TOLD_RULES) == (host_told_policy(told) != before));
		if (host_told_policy(told))
			for (size_t i = 0; i < COUNT(senders); i++) {
				struct policy_subject from = senders[i];

				if (!from.host)
					host_told_name(told, &from);
				check(host_policy_decide(host_told_policy(told), &from, NULL, "print")
					      .outcomes != 0);
			}
		free(error);
		data += length + 1;
		size -= length + 1;
	}
	host_told_free(told);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 1 && data[0] == 'F')
		take_file(data + 1, size - 1);
	else if (size > 1 && data[0] == 'S')
		take_frames(data + 1, size - 1);
	return 0;
}
