/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_CLI_MAP_DOT_H
#define XENMSG_CLI_MAP_DOT_H

#include <stdio.h>

struct host_view;

/* Writes the host in Graphviz's language: a box for each domain, with its endpoints, and an arrow for each
 * two that talk, the thicker the more they do. Texts of others stay texts there, and there is an end of
 * them. */
void map_write_dot(const struct host_view *view, FILE *out);

#endif
