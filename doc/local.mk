# SPDX-License-Identifier: LGPL-2.1-or-later
dist_man_MANS += doc/xenmsg.1 doc/xenmsg.3 doc/xenmsg-policy.5 doc/xenmsgd.8 doc/xenmsgd.conf.5
dist_doc_DATA += doc/architecture.md doc/protocol.md doc/xensim.md doc/running-on-xen.md doc/security.md doc/status.schema.json
EXTRA_DIST += NEWS scripts/demo
