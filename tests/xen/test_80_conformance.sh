# SPDX-License-Identifier: LGPL-2.1-or-later
# Xen's libraries answer here as tests/conformance/answers says, which xensim is held to as well. Between the two xenstoreds
# there are differences: answers.xenstored has the cases in which C xenstored says something else. Those marked "both" run with
# either in the check.

destroy() { guest_destroy "$SPARE"; }
recreate() { guest_create "$SPARE"; }
zombies() { xl list | grep -c '(null)'; }
checkpoint() {
	xl save -c "$SPARE" /tmp/saved >&2
	rm -f /tmp/saved
}
save_and_restore() {
	xl save "$SPARE" /tmp/saved >&2
	xl restore /tmp/saved >&2
	rm -f /tmp/saved
	is_restored "$SPARE"
}

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

# The third guest is the second one of those cases that destroy it.
conformance_with_the_spare() {
	spare
	mkdir -p /run/rig/cases
	ln -sf ../u1.domid ../$SPARE.domid /run/rig/cases
	ln -sf "../$SPARE.domid" /run/rig/cases/u2.domid
	RIG_DOMAINS=/run/rig/cases
	conformance "$1"
}

test_conformance_grants() { conformance grants; } # smoke
# Without the daemon, whose links take pages.
test_conformance_grant_limit() { daemon_stop u1 && conformance grant_limit; }
test_conformance_event_channels() { conformance event_channels; }
test_conformance_event_ring() { conformance event_ring; }
test_conformance_a_killed_mapper() { conformance a_killed_mapper; } # smoke
test_conformance_a_killed_granter() { conformance a_killed_granter; }
test_conformance_a_destroyed_granter() { conformance_with_the_spare a_destroyed_granter; }
test_conformance_a_destroyed_mapper() { conformance_with_the_spare a_destroyed_mapper; }
test_conformance_control() { conformance_with_the_spare control; }
test_conformance_control_zombie() { conformance_with_the_spare control_zombie; }
test_conformance_store_permissions() { conformance store_permissions; } # both
test_conformance_store_watches() { conformance store_watches; } # both, smoke
test_conformance_store_discovery() { conformance store_discovery; } # both
test_conformance_store_transactions() { conformance store_transactions; } # both
test_conformance_store_transaction_reads() { conformance store_transaction_reads; } # both
test_conformance_store_corners() { conformance store_corners; } # both
test_conformance_store_limits() { conformance store_limits; } # both
test_conformance_a_checkpoint() { conformance_with_the_spare a_checkpoint; }
test_conformance_a_restore() { conformance_with_the_spare a_restore; }
