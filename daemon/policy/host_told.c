/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/policy/host_told.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/frame.h"
#include "wire/hash.h"

struct told_domain {
	uint32_t domid;
	char *name, *uuid, *tags;
	UT_hash_handle hh;
};

/* A share, or what is added to one. */
struct told_share {
	struct host_policy *policy;
	struct told_domain *domains;
};

struct host_told {
	struct told_share share; /* in force; its policy is NULL before the first has come */
	/* of the text that is coming */
	char *text;
	size_t size;
	bool is_coming, replaces;
	void (*changed)(void *userdata, uint32_t domid);
	void *userdata;
};

/* --- domains ------------------------------------------------------------------------------------ */

static void forget_domain(struct told_share *share, struct told_domain *domain)
{
	HASH_DEL(share->domains, domain);
	free(domain->name);
	free(domain->uuid);
	free(domain->tags);
	free(domain);
}

static void forget_domains(struct told_share *share)
{
	while (share->domains)
		forget_domain(share, share->domains);
}

static struct told_domain *find_domain(const struct told_share *share, uint32_t domid)
{
	struct told_domain *domain;

	HASH_FIND(hh, share->domains, &domid, sizeof(domid), domain);
	return domain;
}

/* Notes what is said of a domain, in place of what was. */
static int note_domain(void *userdata, const struct host_domain *said)
{
	struct told_share *share = userdata;
	struct told_domain *domain = find_domain(share, said->domid);

	if (domain)
		forget_domain(share, domain);
	if (said->is_gone)
		return 0;
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return -ENOMEM;
	domain->domid = said->domid;
	domain->name = strdup(said->name);
	domain->uuid = strdup(said->uuid);
	domain->tags = said->tags ? strdup(said->tags) : NULL;
	HASH_ADD(hh, share->domains, domid, sizeof(domain->domid), domain);
	return domain->name && domain->uuid && (domain->tags || !said->tags) ? 0 : -ENOMEM;
}

void host_told_name(const struct host_told *told, struct policy_subject *subject)
{
	const struct told_domain *domain = find_domain(&told->share, subject->domid);

	subject->names_unknown = !domain;
	subject->name = domain ? domain->name : "";
	subject->uuid = domain ? domain->uuid : "";
	subject->tags = domain ? domain->tags : NULL;
}

/* What was begun isn't whole any more. */
static void cut(struct host_told *told)
{
	free(told->text);
	told->text = NULL;
	told->size = 0;
	told->is_coming = false;
}

void host_told_forget_domains(struct host_told *told)
{
	forget_domains(&told->share);
	cut(told);
}

/* --- frames ------------------------------------------------------------------------------------- */

static void free_share(struct told_share *share)
{
	host_policy_free(share->policy);
	forget_domains(share);
}

/* Takes the whole text. */
static int take_share(struct host_told *told, FILE *file, char **error)
{
	struct told_share share = {.policy = NULL};
	int r = host_policy_load_share(&share.policy, file, note_domain, &share, error);

	if (r < 0) {
		free_share(&share);
		return r;
	}
	free_share(&told->share);
	told->share = share;
	return HOST_TOLD_RULES;
}

/* Of what is added nothing is kept that has a mistake, but what stands before it: these are about domains one
 * by one. */
static int add_domain(void *userdata, const struct host_domain *said)
{
	struct host_told *told = userdata;
	int r = note_domain(&told->share, said);

	told->changed(told->userdata, said->domid);
	return r;
}

static int take_domains(struct host_told *told, FILE *file, char **error)
{
	struct host_policy *policy = NULL;
	int r = host_policy_load_share(&policy, file, add_domain, told, error);

	if (r == 0 && policy_rules(host_policy_rules(policy)) > 0)
		r = -EINVAL;
	host_policy_free(policy);
	return r < 0 ? r : HOST_TOLD_DOMAINS;
}

static int take_text(struct host_told *told, char **error)
{
	/* An empty one can't be opened. */
	FILE *file = told->size ? fmemopen(told->text, told->size, "r") : fopen("/dev/null", "re");
	int r;

	if (!file)
		return -ENOMEM;
	r = told->replaces ? take_share(told, file, error) : take_domains(told, file, error);
	fclose(file);
	return r == -EINVAL ? -EPROTO : r;
}

static int add_part(struct host_told *told, const char *text, size_t size)
{
	char *grown;

	if (told->size + size > HOST_TOLD_MAX)
		return -EPROTO;
	grown = realloc(told->text, told->size + size + 1);
	if (!grown)
		return -ENOMEM;
	memcpy(grown + told->size, text, size);
	told->text = grown;
	told->size += size;
	return 0;
}

int host_told_take(struct host_told *told, const uint8_t *untrusted_payload, uint32_t length, char **error)
{
	struct frame_policy frame;
	int r = frame_policy_decode(untrusted_payload, length, &frame);

	*error = NULL;
	if (r < 0)
		return r;
	if (frame.flags & POLICY_REPLACES || !told->is_coming) {
		cut(told);
		told->is_coming = true;
		told->replaces = frame.flags & POLICY_REPLACES;
	}
	r = told->replaces || told->share.policy ? add_part(told, frame.text.data, frame.text.size) : -EPROTO;
	if (r == 0 && (frame.flags & POLICY_MORE))
		return HOST_TOLD_PART;
	if (r == 0)
		r = take_text(told, error);
	cut(told);
	return r;
}

const struct host_policy *host_told_policy(const struct host_told *told)
{
	return told->share.policy;
}

/* --- life --------------------------------------------------------------------------------------- */

struct host_told *host_told_new(void (*changed)(void *userdata, uint32_t domid), void *userdata)
{
	struct host_told *told = calloc(1, sizeof(*told));

	if (!told)
		return NULL;
	told->changed = changed;
	told->userdata = userdata;
	return told;
}

void host_told_free(struct host_told *told)
{
	if (!told)
		return;
	cut(told);
	free_share(&told->share);
	free(told);
}
