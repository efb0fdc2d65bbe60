/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/policy/host_told.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/image.h"
#include "base/log.h"
#include "daemon/xen/singleton.h"
#include "wire/address.h"
#include "wire/frame.h"
#include "wire/ut.h"

struct told_domain {
	struct host_domain is;
	UT_hash_handle hh;
};

/* A text of domain 0's. */
struct share_text {
	char *data;
	uint32_t size;
};

/* A share, or what is added to one. */
struct told_share {
	struct policy *policy;
	struct share_text text; /* in which it came whole */
	struct told_domain *domains;
};

struct host_told {
	struct told_share share; /* in force; its policy is NULL before the first has come */
	struct share_text coming;
	bool is_coming, replaces;
	int directory; /* where the share is kept; -1: nowhere */
	void (*changed)(void *userdata, uint32_t domid);
	void *userdata;
};

/* --- domains ------------------------------------------------------------------------------------ */

static void forget_domain(struct told_share *share, struct told_domain *domain)
{
	HASH_DEL(share->domains, domain);
	host_domain_clear(&domain->is);
	free(domain);
}

static void forget_domains(struct told_share *share)
{
	while (share->domains)
		forget_domain(share, share->domains);
}

static struct told_domain *host_told_find_domain(const struct told_share *share, uint32_t domid)
{
	struct told_domain *domain;

	HASH_FIND(hh, share->domains, &domid, sizeof(domid), domain);
	return domain;
}

/* Notes what is said of a domain, in place of what was. */
static int note_domain(void *userdata, struct host_domain *said)
{
	struct told_share *share = userdata;
	struct told_domain *domain = host_told_find_domain(share, said->domid);

	if (domain)
		forget_domain(share, domain);
	if (said->is_gone)
		return 0;
	domain = calloc(1, sizeof(*domain));
	if (!domain)
		return -ENOMEM;
	domain->is = *said;
	HASH_ADD(hh, share->domains, is.domid, sizeof(domain->is.domid), domain);
	if (!HASH_ADDED(domain)) {
		free(domain);
		return -ENOMEM;
	}
	said->name = said->uuid = said->tags = NULL;
	return 0;
}

void host_told_name(const struct host_told *told, struct policy_subject *subject)
{
	const struct told_domain *domain = host_told_find_domain(&told->share, subject->domid);

	subject->names_unknown = !domain;
	subject->name = domain && domain->is.name ? domain->is.name : "";
	subject->uuid = domain && domain->is.uuid ? domain->is.uuid : "";
	subject->tags = domain ? domain->is.tags : NULL;
}

/* What was begun isn't whole any more. */
static void host_told_cut(struct host_told *told)
{
	free(told->coming.data);
	told->coming = (struct share_text){.data = NULL};
	told->is_coming = false;
}

void host_told_forget_domains(struct host_told *told)
{
	forget_domains(&told->share);
	host_told_cut(told);
}

void host_told_forget_domain(struct host_told *told, uint32_t domid)
{
	struct told_domain *domain = host_told_find_domain(&told->share, domid);

	if (domain)
		forget_domain(&told->share, domain);
}

/* --- frames ------------------------------------------------------------------------------------- */

static void free_share(struct told_share *share)
{
	policy_free(share->policy);
	free(share->text.data);
	forget_domains(share);
}

void host_told_forget(struct host_told *told)
{
	host_told_cut(told);
	free_share(&told->share);
	told->share = (struct told_share){.policy = NULL};
}

static FILE *open_text(const struct share_text *text)
{
	static char empty[] = "\n"; /* what has no bytes can't be opened */

	return text->size ? fmemopen(text->data, text->size, "r") : fmemopen(empty, 1, "r");
}

/* Reads a share from its text, which is its own from now on, if there is no error. */
static int read_share(struct told_share *share, const struct share_text *text, char **error)
{
	FILE *file = open_text(text);
	int r = file ? 0 : -ENOMEM;

	*share = (struct told_share){.text = *text};
	if (file) {
		r = host_policy_load_share(&share->policy, file, note_domain, share, error);
		fclose(file);
	}
	if (r < 0) {
		share->text.data = NULL;
		free_share(share);
		*share = (struct told_share){.policy = NULL};
	}
	return r;
}

/* --- what outlives a crash --- */

#define KEPT	 "host-policy"
#define KEPT_NEW "host-policy.new"

static int write_file(int directory, const struct share_text *text)
{
	int fd = openat(directory, KEPT_NEW, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	ssize_t size;
	int r = 0;

	if (fd < 0)
		return -errno;
	size = write(fd, text->data, text->size);
	if (size != (ssize_t)text->size)
		r = size < 0 ? -errno : -ENOSPC;
	close(fd);
	if (r == 0 && renameat(directory, KEPT_NEW, directory, KEPT) < 0)
		r = -errno;
	return r;
}

static void keep_share(const struct host_told *told)
{
	int r = told->directory < 0 ? 0 : write_file(told->directory, &told->share.text);

	if (r < 0)
		log_warning("policy: can't keep the host's policy in " SINGLETON_DIRECTORY
			    ": %s; a crash would lose it until domain 0 tells it again",
			    strerror(-r));
}

/* Reads the file, up to what a share has at most. */
static int read_file(int fd, struct share_text *text)
{
	ssize_t size;

	text->data = malloc(HOST_TOLD_MAX + 1);
	if (!text->data)
		return -ENOMEM;
	size = read(fd, text->data, HOST_TOLD_MAX + 1);
	if (size < 0 || size > (ssize_t)HOST_TOLD_MAX) {
		free(text->data);
		return size < 0 ? -errno : -EFBIG;
	}
	text->size = (uint32_t)size;
	return 0;
}

uint64_t host_told_recall(struct host_told *told, int directory)
{
	int fd = directory < 0 ? -1 : openat(directory, KEPT, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct share_text text;
	struct stat status;
	char *error = NULL;
	int r;

	told->directory = directory;
	if (fd < 0)
		return 0;
	r = fstat(fd, &status) < 0 ? -errno : read_file(fd, &text);
	close(fd);
	if (r == 0) {
		r = read_share(&told->share, &text, &error);
		if (r < 0)
			free(text.data);
	}
	if (r < 0)
		log_error("policy: what is kept of the host's policy can't be read: %s",
			  error ? error : strerror(-r));
	free(error);
	forget_domains(&told->share);
	return r < 0 ? 0 : (uint64_t)status.st_mtime;
}

/* Takes the whole text. */
static int take_share(struct host_told *told, char **error)
{
	struct told_share share;
	int r = read_share(&share, &told->coming, error);

	if (r < 0)
		return r;
	told->coming = (struct share_text){.data = NULL};
	free_share(&told->share);
	told->share = share;
	keep_share(told);
	return HOST_TOLD_RULES;
}

/* Of what is added nothing is kept that has a mistake, but what stands before it: these are about domains one
 * by one. */
static int add_domain(void *userdata, struct host_domain *said)
{
	struct host_told *told = userdata;
	int r = note_domain(&told->share, said);

	told->changed(told->userdata, said->domid);
	return r;
}

static int take_domains(struct host_told *told, char **error)
{
	struct policy *policy = NULL;
	FILE *file = open_text(&told->coming);
	int r = file ? host_policy_load_share(&policy, file, add_domain, told, error) : -ENOMEM;

	if (file)
		fclose(file);
	if (r == 0 && policy_rules(policy) > 0)
		r = -EINVAL;
	policy_free(policy);
	return r < 0 ? r : HOST_TOLD_DOMAINS;
}

static int take_text(struct host_told *told, char **error)
{
	int r = told->replaces ? take_share(told, error) : take_domains(told, error);

	return r == -EINVAL ? -EPROTO : r;
}

static int add_part(struct host_told *told, const char *text, size_t size)
{
	struct share_text *coming = &told->coming;
	char *grown;

	if (size > HOST_TOLD_MAX - coming->size)
		return -EPROTO;
	grown = realloc(coming->data, coming->size + size + 1);
	if (!grown)
		return -ENOMEM;
	memcpy(grown + coming->size, text, size);
	coming->data = grown;
	coming->size += (uint32_t)size;
	return 0;
}

int host_told_take(struct host_told *told, const uint8_t *untrusted_payload, uint32_t length, char **error)
{
	struct frame_policy frame;
	uint32_t before;
	int r = frame_policy_decode(untrusted_payload, length, &frame);

	*error = NULL;
	if (r < 0)
		return r;
	if (frame.flags & POLICY_REPLACES || !told->is_coming) {
		host_told_cut(told);
		told->is_coming = true;
		told->replaces = frame.flags & POLICY_REPLACES;
	}
	before = told->coming.size;
	r = told->replaces || told->share.policy ? add_part(told, frame.text.data, frame.text.size) : -EPROTO;
	if (r == 0 && (frame.flags & POLICY_MORE))
		return HOST_TOLD_PART;
	if (r == 0)
		r = take_text(told, error);
	if (r == -ENOMEM) /* the frame comes again */
		told->coming.size = before;
	else
		host_told_cut(told);
	return r;
}

const struct policy *host_told_policy(const struct host_told *told)
{
	return told->share.policy;
}

/* --- the image ---------------------------------------------------------------------------------- */

static void text_image(struct image *image, struct share_text *text)
{
	struct image_bytes bytes = {(const uint8_t *)text->data, text->size};

	image_bytes(image, &bytes, HOST_TOLD_MAX);
	if (!image->is_read || image->error)
		return;
	text->data = malloc(bytes.size + 1u);
	if (!text->data) {
		image_fail(image, -ENOMEM);
		return;
	}
	memcpy(text->data, bytes.data, bytes.size);
	text->size = bytes.size;
}

static void domain_image(struct image *image, struct host_domain *domain)
{
	image_u32(image, &domain->domid);
	image_string(image, &domain->name, HOST_TOLD_MAX);
	image_string(image, &domain->uuid, HOST_TOLD_MAX);
	image_string(image, &domain->tags, HOST_TOLD_MAX);
	image_expect(image, domid_is_valid(domain->domid));
}

static void read_domain(struct image *image, struct told_share *share)
{
	struct host_domain read = {.domid = 0};
	int r = 0;

	domain_image(image, &read);
	if (!image->error)
		r = note_domain(share, &read);
	if (r < 0)
		image_fail(image, r);
	host_domain_clear(&read);
}

/* The rules are in the text in which they came, the domains as they were told last. */
static void share_image(struct image *image, struct told_share *share)
{
	uint32_t count = HASH_COUNT(share->domains);
	struct share_text text = share->text;
	struct told_domain *domain, *next;
	char *error = NULL;
	int r;

	text_image(image, &text);
	if (image->is_read && !image->error) {
		r = read_share(share, &text, &error);
		free(error);
		if (r < 0) {
			free(text.data);
			image_fail(image, r);
		}
		forget_domains(share);
	}
	image_upto(image, &count, DOMID_MAX + 1);
	if (image->is_read)
		for (; count > 0 && !image->error; count--)
			read_domain(image, share);
	else
		HASH_ITER(hh, share->domains, domain, next)
			domain_image(image, &domain->is);
}

void host_told_image(struct image *image, struct host_told *told)
{
	bool is_told;

	if (image->is_read)
		host_told_forget(told); /* what a file had */
	is_told = told->share.policy != NULL;
	image_bool(image, &is_told);
	if (is_told)
		share_image(image, &told->share);
	image_bool(image, &told->is_coming);
	image_bool(image, &told->replaces);
	text_image(image, &told->coming);
}

/* --- life --------------------------------------------------------------------------------------- */

struct host_told *host_told_new(void (*changed)(void *userdata, uint32_t domid), void *userdata)
{
	struct host_told *told = calloc(1, sizeof(*told));

	if (!told)
		return NULL;
	told->directory = -1;
	told->changed = changed;
	told->userdata = userdata;
	return told;
}

void host_told_free(struct host_told *told)
{
	if (!told)
		return;
	host_told_cut(told);
	free_share(&told->share);
	free(told);
}
