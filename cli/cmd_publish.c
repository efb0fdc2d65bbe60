/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/interrupt.h"
#include "cli/messages.h"
#include "wire/address.h"

static const char help[] =
	"Usage: xenmsg publish [OPTIONS] TOPIC [MESSAGE]\n"
	"       xenmsg publish --each [OPTIONS] TOPIC MESSAGE...\n"
	"\n"
	"Makes the endpoint TOPIC of this domain a topic, and publishes MESSAGE there, or\n"
	"what comes on standard input (also for -), to all who subscribe to it (xenmsg\n"
	"subscribe). That waits for no subscriber. The topic is there as long as this\n"
	"command.\n"
	"\n"
	"One message is kept for those that subscribe within the time of --stay, and so\n"
	"are those of --each. With --lines each line goes to those who have subscribed\n"
	"by then. At a terminal, or with --verbose, it says when somebody subscribes, and\n"
	"when nobody does any more.\n"
	"\n"
	"      --each          publish each MESSAGE, in this order; its key is its number\n"
	"      --file FILE     publish the contents of FILE as one message\n"
	"      --lines         publish each line of standard input as a message, without\n"
	"                      its newline\n"
	"      --retain        with --lines: the last is kept for later subscribers\n"
	"      --retain-keys N\n"
	"                      with --lines or --each: the first word of each line is its\n"
	"                      key, and the last line of each key is kept, of the N keys\n"
	"                      that were published last; a line that is nothing but a key\n"
	"                      goes as an empty message, and none of that key is kept\n"
	"      --stay S        stay for S seconds behind the last message (6, or 0 behind\n"
	"                      --lines)\n"
	"\n"
	"Examples:\n"
	"  xenmsg publish news 'shutdown at 18:00'\n"
	"  date | xenmsg publish --lines --stay 1h clock\n"
	"  xenmsg publish --file config --stay 1h config\n";

#define STAY_MS 6000
#define KEY_MAX 255

struct publish {
	struct cli *cli;
	struct xenmsg *conn;
	const char *topic;
	char address[ENDPOINT_NAME_MAX + 6];
	uint64_t lines, keys;
	bool is_heard, was_heard;
};

static int publish_too_large(const struct publish *publish, size_t size)
{
	return message_too_large(publish->conn, "publish", publish->topic, size, true);
}

static int publish_keyed(struct publish *publish, const char *key, const void *data, size_t size)
{
	struct xenmsg_options options = *XENMSG_FLAGS(0);
	int r;

	if (size > xenmsg_max_message(publish->conn))
		return publish_too_large(publish, size);
	options.key = key;
	r = xenmsg_send(publish->conn, publish->address, data, size, &options, NULL);
	publish->lines++;
	return r < 0 ? cli_error(publish->conn, "publish", publish->topic, r) : EXIT_DONE;
}

static int publish_one(struct publish *publish, const void *data, size_t size)
{
	return publish_keyed(publish, NULL, data, size);
}

static int publish_file(struct publish *publish, const char *path)
{
	int r, code = EXIT_OTHER;
	char *data;
	size_t size;

	r = message_read(publish->cli, path, "what you type is the message",
			 xenmsg_max_message(publish->conn), &data, &size);
	if (r == 0)
		code = publish_one(publish, data, size);
	else if (r == -EMSGSIZE)
		code = publish_too_large(publish, size);
	free(data);
	return code;
}

static int publish_line(void *userdata, const char *line, size_t size)
{
	struct publish *publish = userdata;
	size_t key_size = 0;
	char key[KEY_MAX + 1];

	if (!publish->keys)
		return publish_one(publish, line, size);
	while (key_size < size && line[key_size] != ' ')
		key_size++;
	if (key_size < 1 || key_size > KEY_MAX) {
		cli_complain(
			"publish %s: with --retain-keys each begins with its key, a word of 1 to %d characters",
			publish->topic, KEY_MAX);
		return EXIT_USAGE;
	}
	memcpy(key, line, key_size);
	key[key_size] = '\0';
	return publish_keyed(publish, key, line, key_size == size ? 0 : size);
}

/* Publishes each of several messages. Unless they have keys of their own, their numbers are, so that all are
 * kept. */
static int publish_each(struct publish *publish, char **messages, unsigned count)
{
	int code = EXIT_DONE;
	char key[16];

	for (unsigned i = 0; i < count && code == EXIT_DONE && !interrupt_came(); i++) {
		size_t size = strlen(messages[i]);

		snprintf(key, sizeof(key), "%u", i + 1);
		code = publish->keys ? publish_line(publish, messages[i], size)
				     : publish_keyed(publish, key, messages[i], size);
	}
	return code;
}

static int publish_lines(struct publish *publish)
{
	struct message_lines lines = {.conn = publish->conn, .take = publish_line, .userdata = publish};
	int r;

	cli_note_typing(publish->cli, "each line that you type is a message");
	r = message_lines_read(&lines);
	if (r >= 0)
		return r;
	if (r == -EMSGSIZE)
		return publish_too_large(publish, lines.size);
	if (!lines.is_input)
		return cli_error(publish->conn, "publish", publish->topic, r);
	cli_complain("standard input: %s", strerror(-r));
	return EXIT_OTHER;
}

/* Is there for a while. */
static int stay(struct publish *publish, int ms)
{
	int64_t deadline = deadline_in(ms);

	while (!interrupt_came()) {
		int r = interrupt_wait(publish->conn, deadline);

		if (r == 0)
			return EXIT_DONE;
		if (r < 0 && r != -EINTR)
			return cli_error(publish->conn, "publish", publish->topic, r);
	}
	return EXIT_DONE;
}

/* Tells who types when somebody listens, and when nobody does any more. */
static void publish_on_change(void *userdata, const struct xenmsg_change *change)
{
	struct publish *publish = userdata;
	bool is_heard = change->listeners > 0;

	if (change->kind != XENMSG_LISTENERS || is_heard == publish->is_heard)
		return;
	publish->is_heard = is_heard;
	publish->was_heard |= is_heard;
	if (publish->cli->verbose || (cli_is_watched(publish->cli) && isatty(STDIN_FILENO)))
		cli_note(publish->cli, "publish %s: %s", publish->topic,
			 is_heard ? "somebody subscribes" : "nobody subscribes any more");
}

/* What the command line says. */
struct publish_words {
	const char *file, *message;
	char **each; /* NULL: without --each */
	unsigned each_count;
	bool lines, retain;
	int stay_ms;
};

/* Takes what is behind the options. Returns 0, or an exit code after a complaint. */
static int take_words(struct publish *publish, struct publish_words *words, int argc, char **argv, bool each)
{
	int code = 0;

	if (optind >= argc)
		return cli_usage("publish", "on which topic?");
	publish->topic = argv[optind++];
	if (each) {
		words->each = argv + optind;
		words->each_count = (unsigned)(argc - optind);
	} else {
		code = message_argument("publish", NULL, argc, argv, &words->message);
	}
	if (code)
		return code;
	if (each && !words->each_count)
		return cli_usage("publish", "--each: which messages?");
	if ((words->message != NULL) + (words->file != NULL) + words->lines + each > 1)
		return cli_usage("publish", "MESSAGE, --each, --file and --lines exclude each other");
	if (publish->keys && !words->lines && !each)
		return cli_usage("publish", "--retain-keys is for --lines and --each");
	if (publish->keys > XENMSG_KEYS_MAX)
		return cli_usage("publish", "bad --retain-keys: at most %d", XENMSG_KEYS_MAX);
	if (words->each_count > XENMSG_KEYS_MAX)
		return cli_usage("publish", "--each is for %d messages at most", XENMSG_KEYS_MAX);
	if (words->retain && !words->lines)
		return cli_usage("publish", "--retain is for --lines: other messages are kept anyway");
	return cli_check_endpoint("publish", publish->topic);
}

/* Makes the topic, and publishes all there is. */
static int bind_and_publish(struct publish *publish, const struct publish_words *words)
{
	bool keeps = words->retain || publish->keys || !words->lines;
	struct xenmsg_options bind =
		*XENMSG_FLAGS(XENMSG_TOPIC | XENMSG_COUNT_LISTENERS | (keeps ? XENMSG_RETAIN : 0));
	int r;

	bind.keys = publish->keys ? (unsigned)publish->keys : words->each_count;
	r = xenmsg_bind(publish->conn, publish->topic, &bind, NULL, NULL);
	if (r < 0)
		return cli_error(publish->conn, "publish", publish->topic, r);
	cli_note_bound(publish->cli, publish->conn, publish->topic);
	if (words->lines)
		return publish_lines(publish);
	if (words->each)
		return publish_each(publish, words->each, words->each_count);
	return words->message ? publish_one(publish, words->message, strlen(words->message))
			      : publish_file(publish, words->file);
}

int cmd_publish(struct cli *cli, int argc, char **argv)
{
	struct publish publish = {.cli = cli};
	struct publish_words words = {.stay_ms = -1};
	bool each = false;
	int code;
	const struct cli_option options[] = {
		{"each", .flag = &each},
		{"file", .text = &words.file},
		{"lines", .flag = &words.lines},
		{"retain", .flag = &words.retain},
		{"retain-keys", .count = &publish.keys},
		{"stay", .ms = &words.stay_ms},
		{0},
	};

	if (!cli_options(cli, argc, argv, help, options, &code))
		return code;
	code = take_words(&publish, &words, argc, argv, each);
	if (code)
		return code;
	snprintf(publish.address, sizeof(publish.address), "self:%s", publish.topic);
	interrupt_catch();
	code = cli_open(cli, &publish.conn);
	if (code)
		return code;
	xenmsg_on_change(publish.conn, publish_on_change, &publish);
	code = bind_and_publish(&publish, &words);
	if (code == EXIT_DONE)
		code = stay(&publish, words.stay_ms >= 0 ? words.stay_ms : words.lines ? 0 : STAY_MS);
	if (code == EXIT_DONE && !publish.was_heard && (cli->verbose || cli_is_watched(cli)))
		cli_note(cli, "publish %s: nobody has subscribed to it", publish.topic);
	xenmsg_close(publish.conn);
	interrupt_die();
	return code;
}
