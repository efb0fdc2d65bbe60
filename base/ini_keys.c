/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "base/ini_keys.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct keys_reading {
	struct ini_file file; /* first: ini_keys_begin_section() gets it */
	const struct ini_keys *keys;
	unsigned *lines;
	void *userdata;
};

/* Writes "[a], [b] and [c]". */
static const char *name_sections(const struct ini_keys *keys, char *out, size_t size)
{
	const char *last = keys->key(keys->count - 1).section, *before = "";
	size_t length = 0;

	for (unsigned i = 0; i < keys->count && length < size; i++) {
		const char *section = keys->key(i).section;

		if (!strcmp(section, before))
			continue;
		length += (size_t)snprintf(out + length, size - length, "%s[%s]",
					   !*before		   ? ""
					   : strcmp(section, last) ? ", "
								   : " and ",
					   section);
		before = section;
	}
	return out;
}

static void ini_keys_begin_section(struct ini_file *file, const char *name, size_t size)
{
	const struct ini_keys *keys = ((const struct keys_reading *)file)->keys;
	char sections[256];

	for (unsigned i = 0; i < keys->count; i++)
		if (strlen(keys->key(i).section) == size && !strncmp(keys->key(i).section, name, size))
			return;
	ini_file_complain(file, "unknown section [%.*s]; there are %s", (int)size, name,
			  name_sections(keys, sections, sizeof(sections)));
}

static int ini_keys_on_key(void *userdata, const char *section, const char *name, const char *value)
{
	struct keys_reading *reading = userdata;
	const struct ini_keys *keys = reading->keys;
	struct ini_file *file = &reading->file;
	char sections[256];
	unsigned i = 0;
	int r;

	if (!*section)
		return ini_file_complain(file, "%s stands before any section; there are %s", name,
					 name_sections(keys, sections, sizeof(sections)));
	while (i < keys->count && (strcmp(keys->key(i).section, section) || strcmp(keys->key(i).name, name)))
		i++;
	if (i == keys->count)
		return ini_file_complain(file, "unknown key %s in [%s]; %s lists all", name, section,
					 keys->manual);
	if (reading->lines[i])
		return ini_file_complain(file, "%s was set before, in line %u", name, reading->lines[i]);
	reading->lines[i] = file->line;
	r = keys->parse(reading->userdata, i, value);
	if (r == -EINVAL)
		return ini_file_complain(file, "%s = %s: must be %s", name, value, keys->key(i).allowed);
	if (r == -EAGAIN)
		return ini_file_fail(file, r, "%s = %s: can't be looked up now", name, value);
	return r < 0 ? ini_file_out_of_memory(file) : 1;
}

int ini_keys_read(struct ini_file *file, const struct ini_keys *keys, unsigned *lines, void *userdata)
{
	struct keys_reading reading = {*file, keys, lines, userdata};
	int r;

	reading.file.begin_section = ini_keys_begin_section;
	r = ini_file_parse(&reading.file, ini_keys_on_key, &reading);
	*file = reading.file;
	return r;
}

int ini_set_string(char **field, const char *value)
{
	char *copy = strdup(value);

	if (!copy)
		return -ENOMEM;
	free(*field);
	*field = copy;
	return 0;
}

const char *ini_next_item(const char **list, size_t *size)
{
	const char *item = *list;

	if (!*item)
		return NULL;
	*size = strcspn(item, ",");
	*list = item + *size + (item[*size] == ',');
	while (*size && isspace((unsigned char)*item))
		item++, (*size)--;
	while (*size && isspace((unsigned char)item[*size - 1]))
		(*size)--;
	return item;
}
