/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A file of the activation directory: any bytes are taken or refused with file and line, and what was taken
 * is complete and within its limits. */

#include "daemon/activation/activation_read.h"
#include "tests/fuzz/fuzz.h"

static char directory[64], path[80];

static void clean_up(void)
{
	unlink(path);
	rmdir(directory);
}

static void make_directory(void)
{
	strcpy(directory, "/tmp/fuzz-activation-XXXXXX");
	check(mkdtemp(directory) != NULL);
	snprintf(path, sizeof(path), "%s/x.conf", directory);
	atexit(clean_up);
}

static void check_settings(const struct activation_settings *settings)
{
	unsigned words = 0;

	check(endpoint_name_is_valid(settings->endpoint, strlen(settings->endpoint)));
	check(settings->user && *settings->user);
	check(!settings->unit != !settings->command);
	check(settings->timeout_ms >= 100 && settings->timeout_ms <= 600000);
	check(!settings->next && !strcmp(settings->path, path));
	if (settings->unit) {
		const char *at = strchr(settings->unit, '@'), *suffix = strrchr(settings->unit, '.');

		/* no path, and no template: "a@.service" is one, "a@..service" is an instance of it */
		check(!strchr(settings->unit, '/') && suffix && settings->unit[0] != '.' &&
		      !(at && at + 1 == suffix));
	}
	if (!settings->command)
		return;
	check(settings->command[0][0] == '/' && settings->words);
	for (; settings->command[words]; words++)
		check(*settings->command[words] && !strpbrk(settings->command[words], " \t"));
	check(words <= 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct activation_settings *list;
	char *error;
	FILE *file;
	int r;

	if (!*directory)
		make_directory();
	file = fopen(path, "wb");
	if (!file)
		return 0;
	fwrite(data, 1, size, file);
	fclose(file);
	r = activation_read(&list, directory, 0, &error);
	if (r == 0) {
		check(!error && list);
		check_settings(list);
		activation_settings_free(list);
	} else {
		check(r == -EINVAL && !list && error && !strncmp(error, path, strlen(path)));
	}
	free(error);
	return 0;
}
