/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "daemon/peers/peers_parse.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/self.h"
#include "wire/address.h"
#include "wire/text.h"

#define ENDPOINT_KINDS 7 /* messages, calls, streams */
#define ENDPOINT_TOPIC 8 /* and nothing else */

/* A cursor over the fields of a value. */
struct fields {
	const char *at, *end;
	bool more; /* there is a field at `at` */
};

/* Begins with a value's first field. -EINVAL: it isn't printable ASCII of a size that XenStore allows. */
static int fields_begin(struct fields *fields, const char *untrusted_value, size_t size)
{
	if (size > PEERS_VALUE_MAX || !text_is_ascii(untrusted_value, size, ' '))
		return -EINVAL;
	*fields = (struct fields){untrusted_value, untrusted_value + size, size > 0};
	return 0;
}

/* Takes the next field. Returns 0, -ENOENT at the end, -EINVAL for an empty field. */
static int fields_next(struct fields *fields, const char **field, size_t *size)
{
	const char *space;

	if (!fields->more)
		return -ENOENT;
	space = memchr(fields->at, ' ', (size_t)(fields->end - fields->at));
	*field = fields->at;
	*size = (size_t)((space ? space : fields->end) - fields->at);
	fields->more = space != NULL;
	fields->at = space ? space + 1 : fields->end;
	return *size ? 0 : -EINVAL;
}

static int number_parse(const char *text, size_t size, uint32_t *number)
{
	uint64_t value = 0;

	if (size == 0 || size > 10 || (size > 1 && text[0] == '0'))
		return -EINVAL;
	for (size_t i = 0; i < size; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -EINVAL;
		value = value * 10 + (uint64_t)(text[i] - '0');
	}
	if (value > UINT32_MAX)
		return -EINVAL;
	*number = (uint32_t)value;
	return 0;
}

static bool is_lower_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static int instance_parse(const char *text, size_t size, char instance[PEERS_INSTANCE_SIZE])
{
	uint8_t uuid[16];

	if (!uuid_parse(text, size, uuid))
		return -EINVAL;
	memcpy(instance, text, size);
	instance[size] = '\0';
	return 0;
}

static int nonce_parse(const char *text, size_t size, char nonce[PEERS_NONCE_SIZE])
{
	if (size != PEERS_NONCE_SIZE - 1)
		return -EINVAL;
	for (size_t i = 0; i < size; i++)
		if (!is_lower_hex(text[i]))
			return -EINVAL;
	memcpy(nonce, text, size);
	nonce[size] = '\0';
	return 0;
}

/* Parses the major version and the instance, which begin both values. */
static int head_parse(struct fields *fields, unsigned *major, char instance[PEERS_INSTANCE_SIZE])
{
	const char *field;
	size_t size;
	uint32_t number;

	if (fields_next(fields, &field, &size) < 0 || number_parse(field, size, &number) < 0)
		return -EINVAL;
	*major = number;
	if (number != PEERS_MAJOR)
		return -EPROTONOSUPPORT;
	if (fields_next(fields, &field, &size) < 0)
		return -EINVAL;
	return instance_parse(field, size, instance);
}

int presence_parse(const char *untrusted_value, size_t size, unsigned *major,
		   char instance[PEERS_INSTANCE_SIZE])
{
	struct fields fields;
	int r = fields_begin(&fields, untrusted_value, size);

	return r < 0 ? r : head_parse(&fields, major, instance);
}

bool presence_token_parse(const char *untrusted_value, size_t size, uint8_t token[16])
{
	char instance[PEERS_INSTANCE_SIZE];
	struct fields fields;
	const char *field;
	size_t field_size;
	unsigned major;

	return fields_begin(&fields, untrusted_value, size) == 0 &&
	       head_parse(&fields, &major, instance) == 0 && fields_next(&fields, &field, &field_size) == 0 &&
	       uuid_parse(field, field_size, token);
}

int hello_parse(const char *untrusted_value, size_t size, unsigned *major, struct rendezvous_hello *hello)
{
	struct fields fields;
	const char *field;
	size_t field_size;
	int r = fields_begin(&fields, untrusted_value, size);

	if (r < 0)
		return r;
	r = head_parse(&fields, major, hello->instance);
	if (r < 0)
		return r;
	if (fields_next(&fields, &field, &field_size) < 0 || nonce_parse(field, field_size, hello->nonce) < 0)
		return -EINVAL;
	if (fields_next(&fields, &field, &field_size) < 0 || field_size != 1 ||
	    (*field != '0' && *field != '1'))
		return -EINVAL;
	hello->map = *field == '1';
	hello->forbidden = fields_next(&fields, &field, &field_size) == 0 && field_size == 1 && *field == '1';
	return 0;
}

/* Takes the places of topics, ".P" each, between the number and the colon. */
static void topics_parse(const char *field, const char *colon, struct offered *offered)
{
	const char *at = memchr(field, '.', (size_t)(colon - field));

	while (at && at < colon && *at == '.') {
		unsigned place = 0, digits = 0;

		for (at++; at < colon && *at >= '0' && *at <= '9' && digits < 5; at++, digits++)
			place = 10 * place + (unsigned)(*at - '0');
		if (digits && place < offered->count && offered->kinds[place] == 0)
			offered->kinds[place] = ENDPOINT_TOPIC;
	}
}

/* Takes the kinds behind "+N:", if there is one for each name. */
static void kinds_parse(const char *field, size_t size, struct offered *offered)
{
	const char *colon = memchr(field, ':', size);

	if (!colon || size - (size_t)(colon + 1 - field) != offered->count)
		return;
	for (unsigned i = 0; i < offered->count; i++)
		if (colon[1 + i] < '0' || colon[1 + i] > '0' + ENDPOINT_KINDS)
			return;
	for (unsigned i = 0; i < offered->count; i++)
		offered->kinds[i] = (uint8_t)(colon[1 + i] - '0');
	topics_parse(field, colon, offered);
}

int endpoints_parse(const char *untrusted_value, size_t size, struct offered *offered)
{
	struct fields fields;
	const char *field;
	size_t field_size;
	unsigned fields_count = size ? 1 : 0;
	char *text;
	int r = fields_begin(&fields, untrusted_value, size);

	*offered = (struct offered){.list = NULL};
	if (r < 0)
		return r;
	for (size_t i = 0; i < size; i++)
		fields_count += untrusted_value[i] == ' ';
	offered->list = calloc(1, (fields_count + 1) * sizeof(*offered->list) + fields_count + size + 1);
	if (!offered->list)
		return -ENOMEM;
	offered->kinds = (uint8_t *)(offered->list + fields_count + 1);
	text = (char *)(offered->kinds + fields_count);
	while ((r = fields_next(&fields, &field, &field_size)) == 0) {
		if (*field == '+' && !fields.more) {
			offered->is_cut = field_size > 1 && field[1] >= '1' && field[1] <= '9';
			kinds_parse(field, field_size, offered);
			continue;
		}
		if (!endpoint_name_is_valid(field, field_size)) {
			r = -EINVAL;
			break;
		}
		memcpy(text, field, field_size);
		offered->list[offered->count++] = text;
		text += field_size + 1;
	}
	if (r != -ENOENT) {
		free(offered->list);
		*offered = (struct offered){.list = NULL};
		return r;
	}
	return 0;
}

/* Writes the last field, about those names that are written. */
static void format_end(const uint8_t *kinds, unsigned written, unsigned left_out, char *at, size_t size)
{
	size_t used = (size_t)snprintf(at, size, "+%u", left_out);

	for (unsigned i = 0; kinds && i < written; i++)
		if (kinds[i] & ENDPOINT_TOPIC)
			used += (size_t)snprintf(at + used, size - used, ".%u", i);
	if (kinds)
		at[used++] = ':';
	for (unsigned i = 0; kinds && i < written; i++)
		at[used + i] = (char)('0' + (kinds[i] & ENDPOINT_KINDS));
	at[used + (kinds ? written : 0)] = '\0';
}

void endpoints_format(const char *const *names, const uint8_t *kinds, unsigned count, char *value,
		      size_t size)
{
	const size_t reserve = sizeof(" +4294967295:");
	size_t used = 0, places = 0;
	unsigned i = 0;

	value[0] = '\0';
	for (; i < count; i++) {
		size_t length = strlen(names[i]), end;

		places += kinds && (kinds[i] & ENDPOINT_TOPIC) ? sizeof(".9999") - 1 : 0;
		end = kinds ? reserve + places + i + 1 : i + 1 < count ? reserve : 1;

		if (used + 1 + length + end > size)
			break;
		if (used)
			value[used++] = ' ';
		memcpy(value + used, names[i], length + 1);
		used += length;
	}
	if (i == count && (!kinds || !count))
		return;
	if (used)
		value[used++] = ' ';
	format_end(kinds, i, count - i, value + used, size - used);
}

int node_number_parse(const char *untrusted_value, size_t size, uint32_t *number)
{
	int r = number_parse(untrusted_value, size, number);

	return r < 0 || *number == 0 ? -EINVAL : 0;
}

/* Takes the next component of a path, "/name", if there is one. */
static bool component_next(const char **path, const char **name, size_t *size)
{
	if (**path != '/')
		return false;
	*name = *path + 1;
	*size = strcspn(*name, "/");
	*path = *name + *size;
	return *size > 0;
}

static bool component_is(const char *name, size_t size, const char *expected)
{
	return strlen(expected) == size && !memcmp(name, expected, size);
}

bool peers_path_reader(const char *untrusted_path, uint32_t *reader)
{
	const char *at = strstr(untrusted_path, "/data/xenmsg/to/"), *name;
	size_t size;

	if (!at)
		return false;
	at += strlen("/data/xenmsg/to");
	return component_next(&at, &name, &size) && domid_parse(name, size, reader);
}

enum peers_path peers_path_parse(const char *untrusted_path, uint32_t me, uint32_t *domid,
				 char nonce[PEERS_NONCE_SIZE])
{
	static const char root[] = "/local/domain";
	const char *at = untrusted_path, *name;
	uint32_t reader;
	size_t size;

	if (strncmp(at, root, sizeof(root) - 1))
		return PEERS_PATH_OTHER;
	at += sizeof(root) - 1;
	if (*at == '\0')
		return PEERS_PATH_ALL;
	if (!component_next(&at, &name, &size) || !domid_parse(name, size, domid) ||
	    (size > 1 && *name == '0'))
		return PEERS_PATH_OTHER;
	if (*at == '\0')
		return PEERS_PATH_DOMAIN;
	if (!component_next(&at, &name, &size) || !component_is(name, size, "data"))
		return PEERS_PATH_OTHER;
	if (*at == '\0')
		return PEERS_PATH_DOMAIN;
	if (!component_next(&at, &name, &size) || !component_is(name, size, "xenmsg"))
		return PEERS_PATH_OTHER;
	if (*at == '\0')
		return PEERS_PATH_DOMAIN;
	if (!component_next(&at, &name, &size))
		return PEERS_PATH_OTHER;
	if (component_is(name, size, "presence"))
		return *at == '\0' ? PEERS_PATH_PRESENCE : PEERS_PATH_OTHER;
	if (component_is(name, size, "endpoints"))
		return *at == '\0' ? PEERS_PATH_PUBLIC : PEERS_PATH_OTHER;
	if (component_is(name, size, "asks"))
		return *at == '\0' ? PEERS_PATH_ASKS : PEERS_PATH_OTHER;
	if (!component_is(name, size, "to"))
		return PEERS_PATH_OTHER;
	if (*at == '\0')
		return PEERS_PATH_DOMAIN;
	if (!component_next(&at, &name, &size) || !domid_parse(name, size, &reader) || reader != me ||
	    (size > 1 && *name == '0'))
		return PEERS_PATH_OTHER;
	if (*at == '\0')
		return PEERS_PATH_DOMAIN;
	if (!component_next(&at, &name, &size))
		return PEERS_PATH_OTHER;
	if (component_is(name, size, "hello"))
		return *at == '\0' ? PEERS_PATH_HELLO : PEERS_PATH_OTHER;
	if (component_is(name, size, "endpoints"))
		return *at == '\0' ? PEERS_PATH_ENDPOINTS : PEERS_PATH_OTHER;
	if (nonce_parse(name, size, nonce) < 0)
		return PEERS_PATH_OTHER;
	if (*at == '\0')
		return PEERS_PATH_NODES;
	if (!component_next(&at, &name, &size) || *at != '\0')
		return PEERS_PATH_OTHER;
	return component_is(name, size, "ring-ref") || component_is(name, size, "event-channel")
		       ? PEERS_PATH_NODES
		       : PEERS_PATH_OTHER;
}

/* --- tags that the toolstack gives ------------------------------------------------------------ */

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
