# SPDX-License-Identifier: LGPL-2.1-or-later
include_HEADERS += include/xenmsg.h
