/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_H
#define XENMSG_H
#endif
