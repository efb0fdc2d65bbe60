# SPDX-License-Identifier: LGPL-2.1-or-later
# A third guest that watches all the while what the others do.

test_a_third_guest_reads_nothing_that_is_not_meant_for_it() { # both, smoke
	local status=0
	spare
	background u3 spy "echo \$\$ >/tmp/spy.pid; exec rig-spy $(domid u1) $(domid u2) 0"
	on u3 'eventually 10 [ -s /tmp/spy.pid ]'
	for name in u1 u2; do daemon_restart $name; done
	arrives u1 u2
	arrives u2 dom0
	on u3 'killall rig-spy; looked() { grep -q ^looked /tmp/spy.out; }; eventually 10 looked; tail -n 20 /tmp/spy.out
		grep -q "what was private 0 times" /tmp/spy.out && ! grep -q "presence 0 times" /tmp/spy.out'
}
