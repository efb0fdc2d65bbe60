/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What another domain says its status is: what is taken can be printed, as JSON that is read again, without a
 * character that does something at a terminal, as metrics, and as
 * what top --host shows. */

#include <json-c/json.h>

#include "cli/far_status.h"
#include "cli/host_view.h"
#include "cli/metrics.h"
#include "cli/terminal.h"
#include "tests/fuzz/fuzz.h"

/* Nothing in it has to be escaped. */
static void require_plain(const char *text)
{
	char *shown = terminal_line(text);

	check(shown && !strcmp(shown, text));
	free(shown);
}

static void require_metrics(struct json_object *status)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	check(out != NULL);
	metrics_write(status, out);
	fclose(out);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		check(*line == '#' || !strncmp(line, "xenmsg_", 7));
		require_plain(line);
	}
	free(text);
}

static struct json_object *entry_of(int domid, struct json_object *status)
{
	struct json_object *entry = json_object_new_object();

	json_object_object_add(entry, "domid", json_object_new_int(domid));
	json_object_object_add(entry, "status", json_object_get(status));
	return entry;
}

/* Three domains tell that. */
static void require_view(struct json_object *status)
{
	struct json_object *all = json_object_new_array();
	struct host_view *before, *view;

	for (int domid = 0; domid < 3; domid++)
		json_object_array_add(all, entry_of(domid, status));
	before = host_view_new(all, NULL, 0);
	view = host_view_new(all, before, 0.5);
	check(before && view);
	require_plain(json_object_to_json_string_ext(view->shown, JSON_C_TO_STRING_PLAIN));
	host_view_free(before);
	host_view_free(view);
	json_object_put(all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *why = NULL, *text;
	struct json_object *status = remote_status_parse((const char *)data, size, FAR_STATUS_MOST, &why),
			   *again;

	check(why != NULL);
	if (!status)
		return 0;
	text = json_object_to_json_string_ext(status,
					      JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	require_plain(text);
	again = json_tokener_parse(text);
	check(again && json_object_is_type(again, json_type_object));
	json_object_put(again);
	require_metrics(status);
	require_view(status);
	json_object_put(status);
	return 0;
}
