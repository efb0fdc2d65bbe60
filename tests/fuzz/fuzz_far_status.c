/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What another domain says its status is: what is taken can be printed, as JSON that is read again, without a character that does
 * something at a terminal, and as metrics. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/far_status.h"
#include "cli/metrics.h"
#include "cli/terminal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
	if (!truth)
		abort();
}

/* Nothing in it has to be escaped. */
static void require_plain(const char *text)
{
	char *shown = terminal_line(text);

	require(shown && !strcmp(shown, text));
	free(shown);
}

static void require_metrics(struct json_object *status)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	require(out != NULL);
	metrics_write(status, out);
	fclose(out);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		require(*line == '#' || !strncmp(line, "xenmsg_", 7));
		require_plain(line);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *why = NULL, *text;
	struct json_object *status = far_status_parse((const char *)data, size, &why), *again;

	require(why != NULL);
	if (!status)
		return 0;
	text = json_object_to_json_string_ext(status,
					      JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	require_plain(text);
	again = json_tokener_parse(text);
	require(again && json_object_is_type(again, json_type_object));
	json_object_put(again);
	require_metrics(status);
	json_object_put(status);
	return 0;
}
