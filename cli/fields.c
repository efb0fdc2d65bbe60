/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "cli/fields.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "wire/json.h"

struct json_object *fields_at(struct json_object *object, const char *path, size_t size)
{
	char name[48];

	for (size_t length; size > 0 && object; path += length, size -= length) {
		length = strcspn(path, ".");
		length = length < size ? length : size;
		snprintf(name, sizeof(name), "%.*s", (int)length, path);
		object = json_object_is_type(object, json_type_array)
				 ? json_object_array_get_idx(object, strtoul(name, NULL, 10))
				 : at(object, name);
		length += length < size;
	}
	return object;
}

/* Returns it as text; "": it isn't there. It belongs to the object, or is in `number`, a fraction without its
 * digits. */
static const char *fields_text(struct json_object *object, const char *path, size_t size, char number[32])
{
	struct json_object *value = fields_at(object, path, size);
	const char *text = json_object_get_string(value);

	if (!json_object_is_type(value, json_type_double))
		return text ? text : "";
	snprintf(number, 32, "%.0f", json_object_get_double(value));
	return number;
}

static bool holds(struct json_object *object, const char *condition, size_t size)
{
	bool is_not = *condition == '!';
	const char *path = condition + is_not, *value;
	size_t length = strcspn(path, "!=> ");
	char number[32];
	const char *text = fields_text(object, path, length, number);

	if ((size_t)(path + length - condition) >= size)
		return (*text && strcmp(text, "0") && strcmp(text, "false")) != is_not;
	value = path + length + 1;
	if (path[length] == '>')
		return json_object_get_double(fields_at(object, path, length)) > strtod(value, NULL);
	is_not = path[length] == '!';
	value += is_not;
	size -= (size_t)(value - condition);
	return (strlen(text) == size && !strncmp(text, value, size)) != is_not;
}

bool fields_hold(struct json_object *object, const char *conditions)
{
	while (*conditions) {
		size_t size = strcspn(conditions, " ");

		if (strncmp(conditions, "else", 4) && !holds(object, conditions, size))
			return false;
		conditions += size;
		conditions += strspn(conditions, " ");
	}
	return true;
}

/* Writes what stands in braces. */
static void write_field(struct json_object *object, const char *field, size_t size, FILE *out)
{
	const char *bar = memchr(field, '|', size), *path = bar ? bar + 1 : field;
	size_t before = bar ? (size_t)(bar - field) : 0, length = strcspn(path, "|}");
	const char *behind = path + length + (path[length] == '|');
	char number[32];
	const char *text = fields_text(object, path, length, number);

	if (*text)
		fprintf(out, "%.*s%s%.*s", (int)before, field, text, (int)(field + size - behind), behind);
}

char *fields_words(struct json_object *object, const char *text)
{
	char *words = NULL;
	size_t size;
	FILE *out = open_memstream(&words, &size);

	if (!out)
		cli_no_memory();
	while (*text) {
		size_t plain = strcspn(text, "{"), braced = strcspn(text + plain, "}");

		fwrite(text, 1, plain, out);
		if (braced)
			write_field(object, text + plain + 1, braced - 1, out);
		text += plain + braced;
		text += *text == '}';
	}
	if (fclose(out) != 0)
		cli_no_memory();
	return words;
}

static char *printed(const char *format, va_list args)
{
	char *text;

	if (vasprintf(&text, format, args) < 0)
		cli_no_memory();
	return text;
}

char *fields_printed(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	text = printed(format, args);
	va_end(args);
	return text;
}

char *fields_joined(struct json_object *list, const char *between)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		cli_no_memory();
	fields_foreach(list, entry)
		fprintf(out, "%s%s", entry_at ? between : "", json_object_get_string(entry));
	if (fclose(out) != 0)
		cli_no_memory();
	return text;
}

void fields_add(struct json_object *object, const char *name, const char *format, ...)
{
	va_list args;
	char *text;

	if (!json_object_is_type(object, json_type_object))
		return;
	va_start(args, format);
	text = printed(format, args);
	va_end(args);
	json_object_object_add(object, name, json_object_new_string(text));
	free(text);
}

void fields_name_account(struct json_object *account)
{
	bool is_host = at(account, "host");

	fields_add(account, "who", "%s %s",
		   is_host				     ? "host"
		   : strcmp(text_at(account, "kind"), "uid") ? "domain"
							     : "uid",
		   text_at(account, is_host ? "host" : "id"));
}

void fields_name_link(struct json_object *link)
{
	struct json_object *peer = at(link, "peer");

	/* The number of a host means something to its daemon alone. */
	fields_add(link, "number", "%s", at(peer, "host") ? "host" : text_at(peer, "domid"));
	fields_add(link, "called", "%s", text_or(peer, "host", text_at(peer, "name")));
	if (at(link, "via"))
		fields_add(link, "role", "via 0");
}

void fields_tell_away(struct json_object *link, const char *member)
{
	char when[32];

	if (strcmp(text_at(link, member), "away") != 0 || !at(link, "since"))
		return;
	since_text(link, true, when, sizeof(when));
	fields_add(link, member, "away since %s, resumes %s", when, text_at(link, "resumes"));
}

bool column_next(const char **columns, struct column *column)
{
	int end = 0;

	*column = (struct column){0};
	if (sscanf(*columns, "%31[^=:,]%n", column->title, &end) < 1)
		return false;
	*columns += end;
	memcpy(column->path, column->title, sizeof(column->path));
	if (sscanf(*columns, "=%31[^:,]%n", column->path, &end) > 0)
		*columns += end;
	if (sscanf(*columns, ":%d%n", &column->width, &end) > 0)
		*columns += end;
	column->is_short = **columns == 'k';
	*columns += column->is_short;
	*columns += **columns == ',';
	return true;
}

/* ---- json-c with words ------------------------------------------------------------------------ */

void cli_no_memory(void)
{
	static const char words[] =
		"xenmsg: this command has no memory left (the limit of memory, as a rule: ulimit -v)\n";

	if (write(STDERR_FILENO, words, sizeof(words) - 1) < 0)
		_exit(EXIT_FAILURE);
	exit(EXIT_FAILURE);
}

const char *cli_text_of(struct json_object *value)
{
	return value ? cli_made((void *)(json_object_get_string)(value)) : NULL;
}

/* A value that is being read, and the objects and arrays in which the next one is. */
struct cli_tree {
	struct json_object *whole, *inner[CLI_DEPTH_MAX];
};

static struct json_object *cli_value_of(const struct json_value *value)
{
	switch (value->kind) {
	case JSON_FLAG:
		return json_object_new_boolean(value->flag);
	case JSON_INTEGER:
		if (value->number <= INT64_MAX)
			return json_object_new_int64(value->flag ? -(int64_t)value->number
								 : (int64_t)value->number);
		if (!value->flag)
			return json_object_new_uint64(value->number);
		return json_object_new_int64(INT64_MIN);
	case JSON_REAL:
		return json_object_new_double_s(strtod(value->text, NULL), value->text);
	case JSON_TEXT:
		return json_object_new_string_len(value->text, (int)value->size);
	case JSON_OBJECT:
		return json_object_new_object();
	case JSON_ARRAY:
		return json_object_new_array();
	default:
		return NULL;
	}
}

static void cli_take_value(void *userdata, const struct json_value *value)
{
	struct cli_tree *tree = userdata;
	struct json_object *made, *outer;

	if (value->kind == JSON_END)
		return;
	made = cli_value_of(value);
	outer = value->depth ? tree->inner[value->depth - 1] : NULL;
	if (!outer)
		tree->whole = made;
	else if (value->key)
		json_object_object_add(outer, value->key, made);
	else
		json_object_array_add(outer, made);
	if (value->kind == JSON_OBJECT || value->kind == JSON_ARRAY)
		tree->inner[value->depth] = made;
}

struct json_object *cli_parse_json(const char *text, size_t size, unsigned depth)
{
	struct cli_tree tree = {0};
	char *room = cli_made(malloc(size + 1));

	if (!json_read(text, size, depth, room, cli_take_value, &tree)) {
		json_object_put(tree.whole);
		tree.whole = NULL;
	}
	free(room);
	return tree.whole;
}

static void cli_put_integer(struct json *json, const char *key, struct json_object *value)
{
	char digits[24];

	snprintf(digits, sizeof(digits), "%" PRId64, json_object_get_int64(value));
	if (json_object_get_int64(value) < 0)
		json_digits(json, key, digits);
	else
		json_number(json, key, json_object_get_uint64(value));
}

static void cli_put_value(struct json *json, const char *key, struct json_object *value)
{
	switch (json_object_get_type(value)) {
	case json_type_null:
		json_null(json, key);
		break;
	case json_type_boolean:
		json_flag(json, key, json_object_get_boolean(value));
		break;
	case json_type_double:
		json_digits(json, key, json_object_get_string(value));
		break;
	case json_type_int:
		cli_put_integer(json, key, value);
		break;
	case json_type_string:
		json_text_part(json, key, json_object_get_string(value),
			       (size_t)json_object_get_string_len(value));
		break;
	case json_type_array:
		json_begin(json, key, '[');
		for (size_t i = 0; i < json_object_array_length(value); i++)
			cli_put_value(json, NULL, json_object_array_get_idx(value, i));
		json_end(json, ']');
		break;
	case json_type_object:
		json_begin(json, key, '{');
		json_object_object_foreach(value, name, member)
			cli_put_value(json, name, member);
		json_end(json, '}');
		break;
	}
}

const char *json_line(struct json_object *value)
{
	static struct json line;

	line.size = 0;
	line.is_behind = false;
	cli_put_value(&line, NULL, value);
	json_text_end(&line);
	if (line.failed)
		cli_no_memory();
	return line.text;
}
