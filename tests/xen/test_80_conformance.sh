# SPDX-License-Identifier: LGPL-2.1-or-later
# Xen's libraries answer here as tests/conformance/answers says, which xensim is held to as well. Between the two xenstoreds
# there are differences: answers.xenstored has the cases in which C xenstored says something else.

destroy() { guest_destroy "$1"; }
recreate() { guest_create "$1" && guest_up "$1"; }
zombies() { xl list | grep -c '(null)'; }

conformance() {
	local expected=/rig/conformance/answers
	. /rig/conformance/lib.sh
	. /rig/conformance/cases.sh
	! grep -qx -- "--- $1" "/rig/conformance/answers.$RIG_store" 2>/dev/null || expected=/rig/conformance/answers.$RIG_store
	sed -n "/^--- $1\$/,/^---/p" "$expected" | sed '1d; /^---/d' >/tmp/expected
	set +ex
	"case_$1" >/tmp/answers
	set -ex
	mkdir -p /out/conformance
	{ echo "--- $1" && cat /tmp/answers; } >"/out/conformance/$1"
	diff /tmp/expected /tmp/answers
}

test_conformance_grants() { conformance grants; }
# Without the daemon, whose links take pages.
test_conformance_grant_limit() { daemon_stop u1 && conformance grant_limit; }
test_conformance_event_channels() { conformance event_channels; }
test_conformance_a_killed_mapper() { conformance a_killed_mapper; }
test_conformance_a_killed_granter() { conformance a_killed_granter; }
test_conformance_a_destroyed_granter() { conformance a_destroyed_granter; }
test_conformance_a_destroyed_mapper() { conformance a_destroyed_mapper; }
test_conformance_store_permissions() { conformance store_permissions; }
test_conformance_store_watches() { conformance store_watches; }
test_conformance_store_discovery() { conformance store_discovery; }
test_conformance_store_limits() { conformance store_limits; }
