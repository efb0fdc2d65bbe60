# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests are moved in the midst of traffic, as fast as it goes: programs see a pause and nothing else. rig-traffic compares every
# byte that arrives.

# patient NAME...: their daemons, and they see each other. A save takes as long as the machine has other things to do.
patient() {
	for name; do daemon_restart "$name" 'resume-for = 600s'; done
	see_each_other "$@"
}

migrate() { xl migrate -s '' "$1" 'xl migrate-receive'; } # to this host, without ssh

# Xen can't migrate PV guests where it is built without CONFIG_SHADOW_PAGING, as Debian's is. The guest goes on.
test_traffic_goes_on_after_a_migration_that_fails() {
	local before
	spare
	ready u3
	patient dom0 u3
	before=$(domid u3)
	traffic dom0 u3
	! migrate u3 || fail 'this Xen can migrate PV guests'
	[ "$(xl domid u3)" = "$before" ]
	traffic_goes_on dom0 u3
	traffic_ends dom0 u3
}
