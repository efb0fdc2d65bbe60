/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What domains are called, in the image that a daemon hands over (base/image.h). The next daemon knows it
 * from the beginning, so it decides as the one before, until the sources say otherwise: XenStore, which
 * domain 0 reads anew, or domain 0's next list. It doesn't say which are up: that is looked at anew.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/image.h"
#include "daemon/registry/registry.h"

static bool registry_has_name(const struct registry_domain *domain)
{
	return domain->is_complete || domain->name[0] || domain->uuid_text[0] || domain->tags ||
	       domain->tags_refused;
}

static void registry_domain_image(struct image *image, struct registry_domain *domain)
{
	image_u32(image, &domain->domid);
	image_text(image, domain->name, sizeof(domain->name));
	image_raw(image, domain->uuid, sizeof(domain->uuid));
	image_string(image, &domain->tags, REGISTRY_TAGS_MAX);
	image_bool(image, &domain->tags_refused);
	image_bool(image, &domain->is_complete);
	image_bool(image, &domain->is_led_to);
	image_bool(image, &domain->exists);
	image_expect(image, domid_is_valid(domain->domid) &&
				    (!domain->name[0] ||
				     registry_name_is_usable(domain->name, strlen(domain->name))));
}

/* Has the domain be called so, unless something was read of it already. */
static int registry_image_enter(struct registry *registry, const struct registry_domain *read)
{
	struct registry_domain *domain = registry_get(registry, read->domid);
	int r;

	if (!domain)
		return -ENOMEM;
	domain->exists = domain->exists || read->exists;
	if (domain->version || domain->is_complete)
		return 0;
	registry_set_uuid(registry, domain, read->uuid);
	registry_set_name(registry, domain, read->name, strlen(read->name));
	r = registry_set_tags(registry, domain, read->tags, read->tags_refused);
	domain->is_led_to = read->is_led_to;
	registry_set_complete(registry, domain, read->is_complete);
	return r;
}

static void registry_read_domain(struct registry *registry, struct image *image)
{
	struct registry_domain read = {.domid = 0};
	int r;

	registry_domain_image(image, &read);
	r = image->error ? 0 : registry_image_enter(registry, &read);
	if (r < 0)
		image_fail(image, r);
	free(read.tags);
}

static int compare_versions(const void *one, const void *other)
{
	const struct registry_domain *const *a = one, *const *b = other;

	return ((*a)->version > (*b)->version) - ((*a)->version < (*b)->version);
}

/* Writes them in the order in which they have changed: of two that have one name, the later one means it. */
static void write_domains(struct registry *registry, struct image *image)
{
	struct registry_domain *domain = NULL, **some;
	uint32_t count = 0, at = 0;

	while ((domain = registry_next(registry, domain)) != NULL)
		count += registry_has_name(domain);
	image_u32(image, &count);
	some = calloc(count + 1, sizeof(*some));
	if (!some) {
		image_fail(image, -ENOMEM);
		return;
	}
	while ((domain = registry_next(registry, domain)) != NULL)
		if (registry_has_name(domain))
			some[at++] = domain;
	qsort(some, count, sizeof(*some), compare_versions);
	for (at = 0; at < count; at++)
		registry_domain_image(image, some[at]);
	free(some);
}

void registry_names_image(struct image *image, struct registry *registry)
{
	struct registry_teller *zero = registry_teller(registry);
	uint64_t lost_ms = zero->lost_ms ? zero->lost_ms : clock_ms();
	uint32_t count;

	image_bool(image, &zero->tells);
	image_u64(image, &lost_ms);
	image_expect(image, lost_ms <= clock_ms());
	if (!image->is_read) {
		write_domains(registry, image);
		return;
	}
	zero->lost_ms = lost_ms;
	image_upto(image, &count, DOMID_MAX + 1);
	for (uint32_t i = 0; i < count && !image->error; i++)
		registry_read_domain(registry, image);
}
