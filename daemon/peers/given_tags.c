/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/given_tags.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "wire/address.h"

#define SEPARATORS ", \t\n"

int given_tags_read(const char *untrusted_value, size_t size, char **tags, const char **why)
{
	const char *at = untrusted_value;
	unsigned count = 0;
	char *end;

	*tags = NULL;
	*why = "they are too many or too long";
	if (size > GIVEN_TAGS_BYTES)
		return -EINVAL;
	*tags = end = malloc(size + 3);
	if (!end)
		return -ENOMEM;
	*end++ = ',';
	while (at += strspn(at, SEPARATORS), *at) {
		size_t length = strcspn(at, SEPARATORS);

		if (!endpoint_name_is_valid(at, length))
			*why = "a tag is made of letters, digits, _ and -";
		if (!endpoint_name_is_valid(at, length) || ++count > GIVEN_TAGS_MAX)
			break;
		memcpy(end, at, length);
		end += length;
		*end++ = ',';
		at += length;
	}
	*end = '\0';
	if (*at == '\0' && at == untrusted_value + size && count)
		return 0;
	free(*tags);
	*tags = NULL;
	if (*at == '\0' && at != untrusted_value + size)
		*why = "they have a byte that is zero";
	return *at == '\0' && at == untrusted_value + size ? 0 : -EINVAL;
}
