# SPDX-License-Identifier: LGPL-2.1-or-later
# doc/protocol.md, proved by implementations of their own; and the examples.
integration_tests += \
	tests/integration/link_peer.py \
	tests/integration/test_examples.py \
	tests/integration/test_probes.py \
	tests/integration/test_protocol.py \
	tests/integration/test_protocol_link.py \
	tests/integration/xenmsg_client.py
