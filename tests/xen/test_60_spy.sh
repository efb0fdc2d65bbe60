# SPDX-License-Identifier: LGPL-2.1-or-later
# A third guest that watches all the while what the others do.

test_a_third_guest_reads_nothing_that_is_not_meant_for_it() {
	local status=0
	guest_create u3
	guest_up u3
	background u3 spy "echo \$\$ >/tmp/spy.pid; exec rig-spy $(domid u1) $(domid u2) 0"
	eventually 10 on u3 'test -s /tmp/spy.pid'
	for name in u1 u2; do
		daemon_stop $name
		daemon_start $name
	done
	arrives u1 u2
	arrives u2 dom0
	on u3 'killall rig-spy'
	eventually 10 on u3 'grep -q ^looked /tmp/spy.out' || status=1
	on u3 'tail -n 20 /tmp/spy.out'
	on u3 'grep -q "what was private 0 times" /tmp/spy.out && ! grep -q "presence 0 times" /tmp/spy.out' || status=1
	guest_destroy u3
	return $status
}
