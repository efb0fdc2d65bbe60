/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Tags that stand in XenStore below a domain: what is taken is a list of valid names, all of which stood
 * there, in their order. */

#include "daemon/peers/peers_parse.h"
#include "tests/fuzz/fuzz.h"
#include "wire/address.h"

/* ",web,db,": the form that policy searches. */
static void require_tags(const char *tags, const char *value)
{
	unsigned count = 0;

	check(*tags++ == ',');
	for (size_t length; *tags; tags += length + 1) {
		length = strcspn(tags, ",");
		check(tags[length] == ',' && endpoint_name_is_valid(tags, length));
		value += strspn(value, ", \t\n");
		check(!strncmp(value, tags, length) && strcspn(value, ", \t\n") == length);
		value += length;
		count++;
	}
	check(count > 0 && count <= GIVEN_TAGS_MAX);
	check(value[strspn(value, ", \t\n")] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *value = malloc(size + 1), *tags = NULL; /* libxenstore ends what it reads with a zero */
	const char *why = NULL;
	int r;

	check(value != NULL);
	if (size)
		memcpy(value, data, size);
	value[size] = '\0';
	r = given_tags_read(value, size, &tags, &why);
	check(r == 0 || (r == -EINVAL && !tags && why));
	if (tags)
		require_tags(tags, value);
	else if (r == 0)
		check(strspn(value, ", \t\n") == size);
	free(tags);
	free(value);
	return 0;
}
