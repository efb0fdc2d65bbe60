/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A policy file: any bytes are taken or refused with file and line, and what was taken decides about
 * everybody, each time alike, shows an endpoint where it may be reached, and says so. */

#include "daemon/policy/policy.h"
#include "tests/conf_text.h"
#include "tests/fuzz/fuzz.h"

/* Finds out from what is said who the endpoint is shown to whether that is so. */
struct said {
	const struct policy_subject *who;
	bool decided, allow;
};

static void hear(void *userdata, const char *domain, bool allow)
{
	struct said *said = userdata;
	char domid[16];

	snprintf(domid, sizeof(domid), "%u", said->who->domid);
	if (said->decided || (strcmp(domain, "*") && strcmp(domain, domid) &&
			      strcmp(domain, said->who->name) && strcasecmp(domain, said->who->uuid)))
		return;
	said->decided = true;
	said->allow = allow;
}

static void ask(const struct policy *policy, const struct policy_subject *who)
{
	static const char *const endpoints[] = {"print", "scan-7", "a", "Z_"};
	static const struct policy_subject me = {.domid = 1, .is_self = true, .name = "", .uuid = ""};

	for (unsigned i = 0; i < sizeof(endpoints) / sizeof(*endpoints); i++) {
		struct policy_decision reach = policy_reach(policy, who, endpoints[i]);
		struct policy_decision again = policy_reach(policy, who, endpoints[i]);
		struct policy_decision bind = policy_bind(policy, who, endpoints[i], 7);

		check(reach.allow == again.allow && reach.file == again.file && reach.line == again.line);
		check(reach.file ? !strcmp(reach.file, "fuzz") && reach.line >= 1
				 : reach.allow == who->is_self);
		check(!reach.undecided);
		check(bind.file ? !strcmp(bind.file, "fuzz") && bind.line >= 1
				: bind.allow == (who->uid == 0));
		if (reach.allow)
			check(policy_shows(policy, who, endpoints[i]));
		if (!who->is_self) {
			struct said said = {.who = who};

			policy_shown_to(policy, &me, endpoints[i], hear, &said);
			check(said.allow == policy_shows(policy, who, endpoints[i]));
		}
	}
}

/* Of a domain whose name isn't known yet: what is decided is what will be once it is. */
static void ask_early(const struct policy *policy, const struct policy_subject *who)
{
	static const char *const endpoints[] = {"print", "scan-7"};
	struct policy_subject early = *who;

	early.name = early.uuid = "";
	early.names_unknown = true;
	for (unsigned i = 0; i < sizeof(endpoints) / sizeof(*endpoints); i++) {
		struct policy_decision reach = policy_reach(policy, &early, endpoints[i]);

		if (reach.undecided)
			check(!reach.allow && reach.file && policy_needs_names(policy));
		else
			check(reach.allow == policy_reach(policy, who, endpoints[i]).allow);
		if (policy_shows(policy, &early, endpoints[i]))
			check(policy_shows(policy, who, endpoints[i]));
	}
	if (policy_sees(policy, &early, who))
		check(policy_sees(policy, who, who));
	if (policy_sees(policy, who, &early))
		check(policy_sees(policy, who, who));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct policy_subject subjects[] = {
		{.domid = 3,
		 .name = "work",
		 .uuid = "0f0e0d0c-0b0a-4908-8706-050403020100",
		 .uid = 1000,
		 .gid = 1000},
		{.domid = 1, .is_self = true, .name = "", .uuid = "", .uid = 0, .gid = 0},
		{.domid = 0, .name = "Domain-0", .uuid = "", .uid = 4294967294u, .gid = 1},
	};
	struct policy *policy = NULL;
	char *error;
	int r;

	if (size == 0) /* fmemopen takes it for an error */
		return 0;
	conf_text = fmemopen((void *)(uintptr_t)data, size, "r");
	if (!conf_text)
		return 0;
	r = policy_load(&policy, "fuzz", &error);
	if (r == -EINVAL)
		check(error && !strncmp(error, "fuzz:", 5) && !policy);
	if (r == 0) {
		check(!error);
		for (unsigned i = 0; i < sizeof(subjects) / sizeof(*subjects); i++) {
			ask(policy, &subjects[i]);
			ask_early(policy, &subjects[i]);
		}
		policy_free(policy);
	}
	free(error);
	fclose(conf_text);
	return 0;
}
