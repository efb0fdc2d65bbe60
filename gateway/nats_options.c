/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gateway/nats_options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "base/conf_dir.h"
#include "gateway/settings.h"

#define CONNECT_TIMEOUT_MS 2000 /* for each server */
#define PING_INTERVAL_MS   3000
#define PINGS_OUT	   2
#define BUFFER_SIZE	   (256 * 1024) /* is read at once: some of the largest messages */
#define NO_DIRECTORY	   "/dev/null/none"

void nats_options_say_why(char why[NATS_WHY_SIZE], const char *what, natsStatus status)
{
	const char *text = nats_GetLastError(NULL), *behind;

	/* It begins with the place in libnats's sources. */
	if (text && *text == '(' && (behind = strstr(text, "): ")))
		text = behind + 3;
	snprintf(why, NATS_WHY_SIZE, "%s%s%s", what, *what ? ": " : "",
		 text && *text ? text : natsStatus_GetText(status));
}

/* libnats tells only that a file can't be used, not why. */
static bool can_be_used(const char *path, FILE *open_it(const char *path, int *r, char **error),
			char why[NATS_WHY_SIZE])
{
	char *error = NULL;
	int r = 0;
	FILE *file = path ? open_it(path, &r, &error) : NULL;

	if (path && !file)
		snprintf(why, NATS_WHY_SIZE, "%s", error ? error : strerror(-r));
	if (file)
		fclose(file);
	free(error);
	return !path || file;
}

bool nats_options_check(const struct settings *settings, char why[NATS_WHY_SIZE])
{
	return can_be_used(settings->tls_ca, conf_open, why) &&
	       can_be_used(settings->tls_cert, conf_open, why) &&
	       can_be_used(settings->tls_key, conf_open_secret, why) &&
	       can_be_used(settings->credentials, conf_open_secret, why) &&
	       can_be_used(settings->nkey_seed, conf_open_secret, why) &&
	       can_be_used(settings->password_file, conf_open_secret, why);
}

static natsStatus set_password(natsOptions *options, const struct settings *settings)
{
	char password[512] = "", *error = NULL;
	int r;
	FILE *file = conf_open_secret(settings->password_file, &r, &error);
	natsStatus status = NATS_ERR;

	if (file && fgets(password, sizeof(password), file)) {
		password[strcspn(password, "\r\n")] = '\0';
		status = natsOptions_SetUserInfo(options, settings->user, password);
	}
	explicit_bzero(password, sizeof(password));
	free(error);
	if (file)
		fclose(file);
	return status;
}

static natsStatus set_tls(natsOptions *options, const struct settings *settings)
{
	bool secure = settings->tls_ca || settings->tls_cert;
	natsStatus status = NATS_OK;

	for (unsigned i = 0; i < settings->server_count; i++)
		secure = secure || !strncmp(settings->servers[i], "tls://", 6);
	if (secure)
		status = natsOptions_SetSecure(options, true);
	if (status == NATS_OK && settings->tls_ca)
		status = natsOptions_LoadCATrustedCertificates(options, settings->tls_ca);
	if (status == NATS_OK && settings->tls_cert)
		status = natsOptions_LoadCertificatesChain(options, settings->tls_cert, settings->tls_key);
	return status;
}

static natsStatus set_user(natsOptions *options, const struct settings *settings)
{
	if (settings->credentials)
		return natsOptions_SetUserCredentialsFromFiles(options, settings->credentials, NULL);
	if (settings->nkey)
		return natsOptions_SetNKeyFromSeed(options, settings->nkey, settings->nkey_seed);
	return settings->user ? set_password(options, settings) : NATS_OK;
}

/* libnats loads the system's CAs into each context, and adds ours. Where OpenSSL finds the system's, these
 * variables say (X509_STORE_set_default_paths(3)), so that ours stand in their place. */
int nats_options_trust_only(const struct settings *settings)
{
	if (!settings->tls_ca)
		return 0;
	if (getauxval(AT_SECURE)) /* OpenSSL wouldn't look at them */
		return -EPERM;
	return setenv("SSL_CERT_FILE", settings->tls_ca, 1) < 0 || setenv("SSL_CERT_DIR", NO_DIRECTORY, 1) < 0
		       ? -ENOMEM
		       : 0;
}

static natsStatus set_rest(natsOptions *options, const struct settings *settings, const char *name)
{
	natsStatus status = natsOptions_SetServers(options, (const char **)settings->servers,
						   (int)settings->server_count);

	if (status == NATS_OK)
		status = natsOptions_SetName(options, name);
	if (status == NATS_OK)
		status = natsOptions_SetAllowReconnect(options, false);
	if (status == NATS_OK)
		status = natsOptions_SetNoEcho(options, true);
	if (status == NATS_OK) /* asks for the socket at once, without a thread of its own */
		status = natsOptions_SetSendAsap(options, true);
	if (status == NATS_OK)
		status = natsOptions_SetTimeout(options, CONNECT_TIMEOUT_MS);
	if (status == NATS_OK)
		status = natsOptions_SetPingInterval(options, PING_INTERVAL_MS);
	if (status == NATS_OK)
		status = natsOptions_SetMaxPingsOut(options, PINGS_OUT);
	if (status == NATS_OK)
		status = natsOptions_SetIOBufSize(options, BUFFER_SIZE);
	return status;
}

natsOptions *nats_options_new(const struct settings *settings, const char *name, char why[NATS_WHY_SIZE])
{
	natsOptions *options = NULL;
	const char *what = "";
	natsStatus status;

	if (!nats_options_check(settings, why))
		return NULL;
	status = natsOptions_Create(&options);
	if (status == NATS_OK)
		status = set_rest(options, settings, name);
	if (status == NATS_OK) {
		what = "tls-ca, tls-cert and tls-key";
		status = set_tls(options, settings);
	}
	if (status == NATS_OK) {
		what = "credentials, nkey-seed or password-file";
		status = set_user(options, settings);
	}
	if (status == NATS_OK)
		return options;
	nats_options_say_why(why, what, status);
	natsOptions_Destroy(options);
	return NULL;
}
