/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_METRICS_H
#define XENMSG_CLI_METRICS_H

/*
 * The daemon's status as Prometheus text (exposition format 0.0.4). Each number and boolean in the JSON
 * becomes a sample: its path makes the name (links[].tx.bytes: xenmsg_links_tx_bytes_total), and the strings
 * and ids that tell the elements of a list apart make the labels.
 */

#include <stdio.h>

struct json_object;

void metrics_write(struct json_object *status, FILE *out);

#endif
