/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/settings.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/config.h"
#include "base/conf_dir.h"
#include "base/ini_file.h"

enum setting_kind {
	VALUE_SERVERS,
	VALUE_PATH,
	VALUE_SOCKET,
	VALUE_TEXT,
	VALUE_DURATION,
	VALUE_LOG_LEVEL,
	VALUE_LOG_TARGET,
};

#define AT(field)  offsetof(struct settings, field)
#define A_FILE	   "an absolute path"
#define A_DURATION "a time from 100ms to 1h, such as 5s"

static const struct setting_key {
	const char *section, *name;
	enum setting_kind kind;
	size_t offset;
	const char *allowed; /* completes "must be ..." */
} keys[] = {
	{"nats", "servers", VALUE_SERVERS, 0,
	 "1 to 16 URLs such as tls://nats1.example:4222, separated by commas, without user or password"},
	{"nats", "tls-ca", VALUE_PATH, AT(tls_ca), A_FILE},
	{"nats", "tls-cert", VALUE_PATH, AT(tls_cert), A_FILE},
	{"nats", "tls-key", VALUE_PATH, AT(tls_key), A_FILE},
	{"nats", "credentials", VALUE_PATH, AT(credentials), A_FILE},
	{"nats", "nkey", VALUE_TEXT, AT(nkey), "the public key of a user: U and 55 more letters and digits"},
	{"nats", "nkey-seed", VALUE_PATH, AT(nkey_seed), A_FILE},
	{"nats", "user", VALUE_TEXT, AT(user), "a user of the server"},
	{"nats", "password-file", VALUE_PATH, AT(password_file), A_FILE},
	{"gateway", "daemon-socket", VALUE_SOCKET, AT(daemon_socket),
	 "an absolute path of at most 107 bytes (a Unix socket's limit)"},
	{"gateway", "presence-interval", VALUE_DURATION, AT(presence_interval_ms), A_DURATION},
	{"gateway", "dead-after", VALUE_DURATION, AT(dead_after_ms), A_DURATION},
	{"gateway", "log-level", VALUE_LOG_LEVEL, AT(log_level), "error, warning, info or debug"},
	{"gateway", "log-to", VALUE_LOG_TARGET, AT(log_target), "stderr, syslog or journal"},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))

int settings_init(struct settings *settings)
{
	*settings = (struct settings){
		.daemon_socket = strdup("/run/xenmsg/gateway.sock"),
		.presence_interval_ms = 5000,
		.dead_after_ms = 15000,
		.log_level = LOG_LEVEL_INFO,
		.ready_fd = -1,
	};
	return settings->daemon_socket ? 0 : -ENOMEM;
}

void settings_free(struct settings *settings)
{
	for (unsigned i = 0; i < settings->server_count; i++)
		free(settings->servers[i]);
	for (size_t i = 0; i < KEYS; i++)
		if (keys[i].kind == VALUE_PATH || keys[i].kind == VALUE_SOCKET || keys[i].kind == VALUE_TEXT)
			free(*(char **)((char *)settings + keys[i].offset));
	*settings = (struct settings){0};
}

static bool is_url(const char *text)
{
	const char *host = strstr(text, "://");

	/* libnats would show a password in a URL wherever it shows the server. */
	return host && host[3] && (!strncmp(text, "nats://", 7) || !strncmp(text, "tls://", 6)) &&
	       !strchr(text, '@');
}

static int parse_servers(struct settings *settings, const char *text)
{
	const char *item;
	size_t size;

	while ((item = ini_next_item(&text, &size)) != NULL) {
		if (settings->server_count == SETTINGS_SERVERS_MAX)
			return -EINVAL;
		settings->servers[settings->server_count] = strndup(item, size);
		if (!settings->servers[settings->server_count])
			return -ENOMEM;
		if (!is_url(settings->servers[settings->server_count++]))
			return -EINVAL;
	}
	return settings->server_count ? 0 : -EINVAL;
}

static int parse_value(void *settings_, unsigned index, const char *text)
{
	struct settings *settings = settings_;
	void *field = (char *)settings + keys[index].offset;

	switch (keys[index].kind) {
	case VALUE_SERVERS:
		return parse_servers(settings, text);
	case VALUE_SOCKET:
		if (strlen(text) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return -EINVAL;
		__attribute__((fallthrough));
	case VALUE_PATH:
		return text[0] == '/' ? ini_set_string(field, text) : -EINVAL;
	case VALUE_TEXT:
		return *text ? ini_set_string(field, text) : -EINVAL;
	case VALUE_DURATION:
		return config_parse_duration(text, 100, 3600000, field);
	case VALUE_LOG_LEVEL:
		return log_level_parse(text, field);
	case VALUE_LOG_TARGET:
		return log_target_parse(text, field);
	}
	return -EINVAL;
}

/* What must come together, and what can't. */
static const char *check_together(const struct settings *settings)
{
	unsigned ways = !!settings->credentials + !!settings->nkey + !!settings->user;

	if (!settings->server_count)
		return "servers is missing in [nats]";
	if (!settings->tls_cert != !settings->tls_key)
		return "tls-cert and tls-key need each other";
	if (!settings->nkey != !settings->nkey_seed)
		return "nkey and nkey-seed need each other";
	if (!settings->user != !settings->password_file)
		return "user and password-file need each other";
	if (ways > 1)
		return "there may be one of credentials, nkey and user";
	if (settings->dead_after_ms < 2 * settings->presence_interval_ms)
		return "dead-after must be at least twice presence-interval, or a living host is taken for dead";
	return NULL;
}

static struct ini_key key_at(unsigned index)
{
	return (struct ini_key){keys[index].section, keys[index].name, keys[index].allowed};
}

int settings_load(struct settings *settings, const char *path, char **error)
{
	static const struct ini_keys table = {
		.count = KEYS,
		.key = key_at,
		.manual = "xenmsg-gateway(8)",
		.parse = parse_value,
	};
	struct ini_file file = {.path = path, .error = error};
	unsigned lines[KEYS] = {0};
	const char *wrong;
	int r;

	*error = NULL;
	file.stream = conf_open(path, &r, error);
	if (!file.stream)
		return r;
	r = ini_keys_read(&file, &table, lines, settings);
	fclose(file.stream);
	wrong = r == 0 ? check_together(settings) : NULL;
	if (!wrong)
		return r;
	if (asprintf(error, "%s: %s", path, wrong) < 0)
		*error = NULL;
	return -EINVAL;
}
