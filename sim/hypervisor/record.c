/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A record of what passes, for xensim record: a line for each request to XenStore and to the hypervisor, when
 * it has been answered, for each event of a watch, and for what the host does itself. Five columns with tabs
 * between them:
 *
 *	seconds		since the record began
 *	dN		whose it is; "host"
 *	operation	XenStore's in capitals, as the protocol names them
 *	arguments
 *	result		or the error's name
 *
 * There are no process numbers and addresses in it, so that two runs can be compared without their first
 * column.
 */
#include "config.h"

#include "sim/hypervisor/hv_internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim/hypervisor/record_text.h"
#include "sim/store/wire.h"

static void write_time_and_name(struct hv *hv, const char *name)
{
	struct timespec now;
	double seconds;

	clock_gettime(CLOCK_MONOTONIC, &now);
	seconds = (double)(now.tv_sec - hv->record_start.tv_sec) +
		  (double)(now.tv_nsec - hv->record_start.tv_nsec) / 1e9;
	fprintf(hv->record, "%.6f\t%s\t", seconds, name);
}

/* A record that can't be written ends, and the host goes on. */
static void end_line(struct hv *hv)
{
	fputc('\n', hv->record);
	if (fflush(hv->record) == 0)
		return;
	hv->record_error = errno;
	fclose(hv->record);
	hv->record = NULL;
	hv_log(hv, "the record ends, since it cannot be written: %m");
}

void hv_record_host(struct hv *hv, const char *format, va_list arguments)
{
	if (!hv->record)
		return;
	write_time_and_name(hv, "host");
	vfprintf(hv->record, format, arguments);
	end_line(hv);
}

const char *hv_store_operation(uint32_t type)
{
	static const char *const names[] = {
		[XS_CONTROL] = "CONTROL",
		[XS_DIRECTORY] = "DIRECTORY",
		[XS_READ] = "READ",
		[XS_GET_PERMS] = "GET_PERMS",
		[XS_WATCH] = "WATCH",
		[XS_UNWATCH] = "UNWATCH",
		[XS_TRANSACTION_START] = "TRANSACTION_START",
		[XS_TRANSACTION_END] = "TRANSACTION_END",
		[XS_INTRODUCE] = "INTRODUCE",
		[XS_RELEASE] = "RELEASE",
		[XS_GET_DOMAIN_PATH] = "GET_DOMAIN_PATH",
		[XS_WRITE] = "WRITE",
		[XS_MKDIR] = "MKDIR",
		[XS_RM] = "RM",
		[XS_SET_PERMS] = "SET_PERMS",
		[XS_WATCH_EVENT] = "WATCH_EVENT",
		[XS_IS_DOMAIN_INTRODUCED] = "IS_DOMAIN_INTRODUCED",
		[XS_RESUME] = "RESUME",
		[XS_SET_TARGET] = "SET_TARGET",
		[XS_RESET_WATCHES] = "RESET_WATCHES",
		[XS_DIRECTORY_PART] = "DIRECTORY_PART",
	};

	return type < sizeof(names) / sizeof(names[0]) && names[type] ? names[type] : NULL;
}

static void record_store(const struct sim_store_seen *seen, void *userdata)
{
	const char *operation = hv_store_operation(seen->type);
	struct hv *hv = userdata;
	char name[16];

	if (!hv->record)
		return;
	snprintf(name, sizeof(name), "d%u", seen->domid);
	write_time_and_name(hv, name);
	fprintf(hv->record, "%s\t", operation ? operation : "UNKNOWN");
	sim_record_text(hv->record, seen->text, seen->length);
	if (seen->transaction)
		fprintf(hv->record, " (transaction %u)", seen->transaction);
	fputc('\t', hv->record);
	if (seen->error)
		fputs(sim_wire_error_name(seen->error), hv->record);
	else
		sim_record_text(hv->record, seen->answer, seen->answer_length);
	end_line(hv);
}

void hv_record_request(const struct hv_client *client, const struct sim_request *request,
		       const struct sim_reply *reply)
{
	struct hv *hv = client->domain->hv;
	const struct hv_operation *operation = hv->record ? hv_operation(request->op) : NULL;
	char name[16];

	if (!operation || !operation->name)
		return;
	snprintf(name, sizeof(name), "d%u", client->domain->domid);
	write_time_and_name(hv, name);
	fprintf(hv->record, "%s\t", operation->name);
	hv_operation_write(hv->record, operation->arguments, request, reply);
	fputc('\t', hv->record);
	if (reply->error)
		fputs(strerrorname_np(-reply->error), hv->record);
	else
		hv_operation_write(hv->record, operation->result ? operation->result : "OK", request, reply);
	end_line(hv);
}

int hv_record_begin(struct hv *hv, const char *path)
{
	FILE *file = fopen(path, "we");

	if (!file)
		return -errno;
	hv_record_end(hv);
	hv->record = file;
	clock_gettime(CLOCK_MONOTONIC, &hv->record_start);
	sim_store_record(hv->store, record_store, hv);
	return 0;
}

int hv_record_end(struct hv *hv)
{
	int r = -hv->record_error;

	if (hv->record && fclose(hv->record) != 0)
		r = -errno;
	hv->record = NULL;
	hv->record_error = 0;
	if (hv->store)
		sim_store_record(hv->store, NULL, NULL);
	return r;
}
