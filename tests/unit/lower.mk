# SPDX-License-Identifier: LGPL-2.1-or-later
# The tests of what the daemon reads from other domains.
if HAVE_CMOCKA
unit_tests += tests/unit/test_carrier tests/unit/test_peers_parse tests/unit/test_store_watched tests/unit/test_store_worker
endif
