/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Lines of records without what differs between two runs of the same by chance: the numbers of domains,
 * ports, references and transactions. Each becomes the place that it has in its record: domains by their
 * order, the others, each kind of each domain, in the order in which they were first seen.
 */
#ifndef XENMSG_SIM_RECORD_ALIKE_H
#define XENMSG_SIM_RECORD_ALIKE_H

struct record_alike;

/* Returns NULL: no memory. */
struct record_alike *record_alike_new(void);
void record_alike_free(struct record_alike *alike);
/* Learns which domains there are; of all lines, before the first of them is rewritten. Both take a line
 * without its time. Return a negative errno, or NULL: no memory. The caller frees what is returned. */
int record_alike_learn(struct record_alike *alike, const char *line);
char *record_alike_line(struct record_alike *alike, const char *line);

#endif
