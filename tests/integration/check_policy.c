/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Asks policies what they decide. Standard input has, again and again, "policy SIZE" and a newline, so many
 * bytes of a policy's file, and questions about it, a line each:
 *
 *   reach FROM ENDPOINT    shows FROM ENDPOINT    sees FROM TO    relay FROM TO    out FROM HOST
 *   bind UID GID ENDPOINT SOCKET_GROUP
 *   host FROM TO ENDPOINT: what the host's policy and, as TO's own, the other one decide together; where TO's
 *   name is known
 *     it is asked twice, in domain 0 and as TO is told its share, and "differ" if the two don't agree
 *
 * "hosts SIZE" and a newline come before a host's policy, likewise.
 *
 * FROM and TO are HOST,DOMID,SELF,NAME,UUID,UNKNOWN,UID: the host "-" is this one, "?" one without a name; of
 * NAME and UUID "-" is none; SELF and UNKNOWN are 0 or 1. Each answer is a line: allow, deny or undecided; of
 * a policy that can't be read one line says why.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/policy/host_policy.h"
#include "daemon/policy/host_told.h"
#include "daemon/policy/policy.h"
#include "tests/conf_text.h"
#include "wire/frame.h"

#define WORDS 6

struct subject_text {
	struct policy_subject subject;
	char text[256];
};

static void fail(const char *what)
{
	fprintf(stderr, "check-policy: %s\n", what);
	exit(2);
}

static const char *or_empty(const char *text)
{
	return strcmp(text, "-") != 0 ? text : "";
}

static const struct policy_subject *subject_of(struct subject_text *into, const char *word)
{
	char *fields[7], *rest = into->text;

	snprintf(into->text, sizeof(into->text), "%s", word ? word : "");
	for (int i = 0; i < 7; i++)
		if (!(fields[i] = strsep(&rest, ",")))
			fail("a domain has seven fields");
	into->subject = (struct policy_subject){
		.host = !strcmp(fields[0], "-")	  ? NULL
			: !strcmp(fields[0], "?") ? ""
						  : fields[0],
		.domid = (uint32_t)strtoul(fields[1], NULL, 10),
		.is_self = fields[2][0] == '1',
		.name = or_empty(fields[3]),
		.uuid = or_empty(fields[4]),
		.names_unknown = fields[5][0] == '1',
		.uid = (uid_t)strtoul(fields[6], NULL, 10),
	};
	return &into->subject;
}

static const char *in_words(struct policy_decision decision)
{
	return decision.undecided ? "undecided" : decision.allow ? "allow" : "deny";
}

static const char *yes_or_no(bool allow)
{
	return allow ? "allow" : "deny";
}

static const char *bind_answer(const struct policy *policy, char *words[WORDS])
{
	const struct policy_subject who = {.is_self = true,
					   .uid = (uid_t)strtoul(words[1], NULL, 10),
					   .gid = (gid_t)strtoul(words[2], NULL, 10)};

	return in_words(policy_bind(policy, &who, words[3], (gid_t)strtoul(words[4], NULL, 10)));
}

/* ---- the host's policy ---- */

static struct policy *host_policy;

static void add_tags(struct policy_subject *subject)
{
	if (!subject->host && !subject->names_unknown)
		subject->tags = host_policy_tags(host_policy, subject->name, subject->uuid, NULL);
}

static void ignore(void *userdata, uint32_t domid)
{
}

/* Decides as a guest that is told its share, and of the sender if its name is known. */
static struct host_decision decide_told(const struct policy_subject *from, const struct policy_subject *to,
					const char *endpoint)
{
	struct host_told *told = host_told_new(ignore, NULL);
	struct policy_subject seen = *from;
	struct host_decision decision;
	char *text = NULL, *error = NULL, why[256];
	size_t size;
	FILE *file = open_memstream(&text, &size);
	uint8_t payload[FRAME_PAYLOAD_MAX];
	struct frame_policy frame = {.flags = POLICY_REPLACES};

	if (!told || !file || host_policy_write_rules(host_policy, to, file, why, sizeof(why)) < 0)
		fail("no share can be made");
	if (!from->host && !from->names_unknown && host_policy_needs_domains(host_policy, to))
		host_policy_write_domain(host_policy, to, from, file);
	fclose(file);
	frame.text = (struct frame_text){text, size};
	if (host_told_take(told, payload, frame_policy_encode(&frame, payload), &error) != HOST_TOLD_RULES)
		fail(error ? error : "the share isn't taken");
	if (!seen.host)
		host_told_name(told, &seen);
	decision = host_policy_decide(host_told_policy(told), &seen, NULL, endpoint);
	decision.rule = NULL; /* it goes with the share */
	host_told_free(told);
	free(text);
	return decision;
}

static const char *host_answer(const struct policy *policy, const struct policy_subject *sender,
			       const struct policy_subject *receiver, const char *endpoint)
{
	struct policy_subject from = *sender, to = *receiver;
	struct policy_decision own = policy_reach(policy, sender, endpoint), decision;
	struct host_decision by_host;
	bool differ;

	if (from.is_self)
		return in_words(own);
	add_tags(&from);
	add_tags(&to);
	by_host = host_policy_decide(host_policy, &from, &to, endpoint);
	decision = host_policy_join(&by_host, own);
	differ = !to.names_unknown && decide_told(&from, &to, endpoint).outcomes != by_host.outcomes;
	free((void *)(uintptr_t)from.tags);
	free((void *)(uintptr_t)to.tags);
	return differ ? "differ" : in_words(decision);
}

static const char *answer(const struct policy *policy, char *words[WORDS])
{
	struct subject_text from, to;
	const struct policy_subject *subject;

	if (!strcmp(words[0], "bind"))
		return words[4] ? bind_answer(policy, words) : NULL;
	if (!words[2])
		return NULL;
	subject = subject_of(&from, words[1]);
	if (!strcmp(words[0], "reach"))
		return in_words(policy_reach(policy, subject, words[2]));
	if (!strcmp(words[0], "shows"))
		return yes_or_no(policy_shows(policy, subject, words[2]));
	if (!strcmp(words[0], "host"))
		return words[3] && host_policy
			       ? host_answer(policy, subject, subject_of(&to, words[2]), words[3])
			       : NULL;
	if (!strcmp(words[0], "out"))
		return in_words(policy_out(policy, subject, words[2]));
	if (!strcmp(words[0], "sees"))
		return yes_or_no(policy_sees(policy, subject, subject_of(&to, words[2])));
	if (!strcmp(words[0], "relay"))
		return in_words(policy_relay(policy, subject, subject_of(&to, words[2])));
	return NULL;
}

/* Opens so many bytes of standard input; the caller frees the text later. */
static FILE *read_text(size_t size, char **into)
{
	char *text = *into = malloc(size + 1);
	FILE *file;

	if (!text || fread(text, 1, size, stdin) != size)
		fail("the policy is cut");
	file = fmemopen(text, size + 1, "r"); /* one more: it takes no empty one */
	if (size == 0)
		file = fopen("/dev/null", "r");
	if (!file)
		fail("no memory");
	text[size] = '\n';
	return file;
}

static struct policy *read_policy(size_t size)
{
	char *text, *error = NULL;
	struct policy *policy = NULL;

	conf_text = read_text(size, &text);
	if (policy_load(&policy, "policy", &error) < 0) {
		printf("error %s\n", error ? error : strerror(errno));
		policy = NULL;
	}
	fclose(conf_text);
	free(error);
	free(text);
	return policy;
}

static void read_host_policy(size_t size)
{
	char *text, *error = NULL;

	conf_text = read_text(size, &text);
	policy_free(host_policy);
	host_policy = NULL;
	if (host_policy_load(&host_policy, "host policy", &error) < 0)
		fail(error ? error : strerror(errno));
	fclose(conf_text);
	free(text);
}

int main(void)
{
	struct policy *policy = NULL;
	char line[1024];

	while (fgets(line, sizeof(line), stdin)) {
		char *words[WORDS] = {NULL}, *rest = line;
		const char *said;
		int count = 0;

		line[strcspn(line, "\n")] = '\0';
		while (count < WORDS && (words[count] = strsep(&rest, " ")))
			count++;
		if (!strcmp(words[0], "policy") && words[1]) {
			policy_free(policy);
			policy = read_policy(strtoul(words[1], NULL, 10));
			continue;
		}
		if (!strcmp(words[0], "hosts") && words[1]) {
			read_host_policy(strtoul(words[1], NULL, 10));
			continue;
		}
		said = policy ? answer(policy, words) : "none";
		if (!said)
			fail("that is no question");
		puts(said);
	}
	policy_free(policy);
	policy_free(host_policy);
	return 0;
}
