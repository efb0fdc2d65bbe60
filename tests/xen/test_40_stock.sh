# SPDX-License-Identifier: LGPL-2.1-or-later
# The stock libxenvchan at the other end of a link: hostile-peer in its one well-behaved mode.

# stock_link STOCK OURS
stock_link() {
	local status=0
	daemon_stop "$1"
	background "$1" stock "(sleep 120 | hostile-peer $(domid "$2") optional)"
	on "$1" 'pong() { grep -qx PONG /tmp/stock.out; }; eventually 20 pong' || status=1
	on "$1" 'cat /tmp/stock.out; killall hostile-peer sleep; xenstore-rm data/xenmsg'
	return $status
}

test_stock_libxenvchan_serves() { stock_link u2 u1; } # smoke, direct
test_stock_libxenvchan_is_a_client() { stock_link dom0 u2; }

# Stock against stock, so that a failure above is known to be ours.
test_stock_libxenvchan_by_itself() { # direct
	background u2 server "printf 'text hello\\nwait 40000\\nclose\\n' | check-vchan server $(domid u1) data/stock 4096 4096"
	eventually 10 xenstore-exists "/local/domain/$(domid u2)/data/stock/ring-ref"
	on u1 "printf 'gettext 5\\nclose\\n' | check-vchan client $(domid u2) /local/domain/$(domid u2)/data/stock" | grep -qx 'ok hello'
	ended u2 server 0
}

# Debian's program for libxenvchan, unchanged, there and back over xenmsg: the client is an ordinary user's, without a device.
test_a_vchan_program_runs_over_xenmsg() { # both, smoke, smoke_both
	local sum here there
	here=$(domid u1) there=$(domid u2)
	background u2 proxy "(echo answer; sleep 1000) | xenmsg vchan -- vchan-socket-proxy -m server $here data/vchan/proxy -"
	on u2 'eventually 20 has_bound vchan-proxy'
	on u1 'head -c 200000 /dev/urandom >/tmp/proxy.in; rm -f /tmp/proxy.enough; chmod 666 /run/xenmsg/xenmsg.sock'
	background u1 proxy "(cat /tmp/proxy.in; eventually 60 [ -e /tmp/proxy.enough ]) |
		su tester -s /bin/sh -c '. /rig/env; exec xenmsg vchan -- vchan-socket-proxy $there /local/domain/$there/data/vchan/proxy -'"
	on u1 'eventually 40 grep -qx answer /tmp/proxy.out || { head -n 5 /tmp/proxy.out; exit 1; }'
	sum=$(on u1 'md5sum </tmp/proxy.in')
	on u2 "is_whole() { [ \"\$(md5sum </tmp/proxy.out)\" = '$sum' ]; }; eventually 40 is_whole"
	on u1 'touch /tmp/proxy.enough; await proxy 0'
	on u2 'killall sleep; await proxy 0; rm /tmp/proxy.out'
}

# mapped_of NAME: how many pages of that domain others have mapped, as the hypervisor lists the entries of its grant table
# (the latest ones, if there are more than its log has room for)
mapped_of() {
	xl dmesg -c >/dev/null
	xl debug-keys g
	sleep 2
	xl dmesg | awk -v owner="d$(domid "$1") " '
		BEGIN { ours = 1 }
		/grant-table for remote/ { ours = index($0 " ", owner) > 0 }
		/\[0x[0-9a-f]+\] / && ours { entries++ }
		END { print entries + 0 }'
}

# Three vchans with the hostile one, one with dom0, and what Xen itself needs. It goes on for a minute at least.
test_a_mapper_that_keeps_all_has_three_vchans_at_most() { # direct
	local mapped began
	daemon_stop u1
	now
	began=$NOW
	background u1 hoard "(sleep 1000 | hostile-peer $(domid u2) hoard)"
	ON_SECONDS=500 on u1 'kept() { grep -q "KEPT 50" /tmp/hoard.out; }; eventually 120 kept'
	now
	[ $((NOW - began)) -ge 60000 ] || usleep $(((60000 - NOW + began) * 1000))
	mapped=$(mapped_of u2)
	now
	on u1 'cat /tmp/hoard.out; killall hostile-peer sleep; xenstore-rm data/xenmsg'
	echo "mapped by others: $mapped, after $((NOW - began)) ms"
	[ "$mapped" -ge $((2 * 33)) ] && [ "$mapped" -le $((4 * 33 + 10)) ] || return
	daemon_start u1
	arrives u1 u2
	arrives u2 u1
}

# In the guest, so that all of the time is the daemons'.
test_who_crashes_a_hundred_times_has_its_link_each_time() { # named, direct
	local mapped
	ON_SECONDS=1500 on u1 "times=0
		while [ \$times -lt 100 ]; do
			times=\$((times + 1))
			kill -9 \$(cat /run/xenmsgd.pid)
			start_daemon yes && eventually 30 pings $(domid u2) ||
				{ echo \"after \$times crashes\"; xenmsg ping --count 1 $(domid u2); exit 1; }
			[ \$((times % 10)) != 0 ] || echo \"\$times crashes\"
		done"
	mapped=$(mapped_of u2)
	echo "mapped by others: $mapped"
	[ "$mapped" -ge 33 ] && [ "$mapped" -le $((2 * 33 + 10)) ]
	arrives u1 u2
	arrives u2 u1
}
