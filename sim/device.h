/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_SIM_DEVICE_H
#define XENMSG_SIM_DEVICE_H

/* The commands attach and detach, with which xensim is the toolstack of split drivers: words[0] is the
 * command's name, dir the host's directory. Return the exit status, after a line on stderr if it isn't 0. */
int device_attach(const char *dir, int count, char **words);
int device_detach(const char *dir, int count, char **words);

#endif
