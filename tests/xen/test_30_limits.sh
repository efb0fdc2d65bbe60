# SPDX-License-Identifier: LGPL-2.1-or-later
# Limits of the kernel and of XenStore. Those marked "both" run with either xenstored in the check.

limit_grants() { on "$1" "echo $2 >/sys/module/xen_gntalloc/parameters/limit"; }
pings_soon() { on "$1" "eventually 20 pings $(domid "$2")"; }

test_few_grant_pages_make_smaller_rings() { # direct
	daemon_restart u2
	limit_grants u2 40 # one link of 64 KiB each way takes 33
	pings_soon u2 u1
	pings_soon u2 dom0
	big_enough=$(on u2 'xenmsg status --json')
	limit_grants u2 1024
	echo "$big_enough" | grep -q '"ring_bytes": *65536'
	echo "$big_enough" | grep -qE '"ring_bytes": *(1024|2048|4096|8192)'
	arrives u2 dom0
}

test_no_grant_pages_make_a_link_wait_until_some_come_free() { # smoke, direct
	daemon_stop dom0 # which every guest has a link with, for the names
	daemon_restart u2
	limit_grants u2 33
	pings_soon u2 u1
	daemon_start dom0
	background u2 ping "xenmsg ping --count 1 --timeout 120 0"
	on u2 'waits() { xenmsg status --json | grep -q "\"waiting_links\": *1"; }; eventually 10 waits'
	daemon_stop u1 # the first link ends
	ended u2 ping 0 || { limit_grants u2 1024; return 1; }
	limit_grants u2 1024
}

test_a_used_up_xenstore_quota_passes() { # both
	daemon_stop u2
	on u2 'echo xs-fill data/fill 3000 | check-xen | grep error && ! xenstore-write data/one-more x'
	on u2 'rm -f /run/xenmsg/xenmsg.sock; setsid rig-daemon >/dev/null 2>&1 & eventually 20 answers'
	on u2 "xenmsg ping --count 1 --timeout 3 $(domid u1); [ \$? != 0 ]"
	on u2 'xenstore-rm data/fill'
	on u2 "eventually 70 pings $(domid u1)"
	arrives u1 u2
}

# A refused watch costs the daemon its connection to XenStore: once, not again and again.
test_a_used_up_quota_of_watches_costs_watches_and_no_link() { # both, direct
	daemon_stop dom0 # which would tell u2 what changes, so that it would need no watch on all domains
	daemon_stop u2
	on u2 'room=$(echo xs-watches-room data/w | check-xen | sed -n "2s/ok //p"); echo "room for $room"
		(printf "xs-watches data/w %d\n" $((room - 2)); sleep 300) | check-xen >/tmp/greedy.out & echo $! >/tmp/greedy.pid
		set_all() { [ "$(wc -l </tmp/greedy.out)" = 2 ]; }; eventually 20 set_all; tail -n 1 /tmp/greedy.out | grep -x "ok 0"'
	daemon_start u2
	arrives u1 u2 || { on u2 'killall check-xen sleep'; daemon_start dom0; return 1; } # two are enough for discovery
	on u2 'refused() { grep -q "quota of watches is used up" /run/xenmsgd.log; }; eventually 20 refused'
	on u2 'killall check-xen sleep; all() { grep -q "all is watched again" /run/xenmsgd.log; }; eventually 60 all
		! grep "connection to XenStore is lost" /run/xenmsgd.log'
	daemon_start dom0
	arrives u2 u1
}

# resident: of dom0's daemon, in KiB, all and its own
resident() { on dom0 'sed -n "s/^\(Rss\|Private_Dirty\|Anonymous\): *\([0-9]*\) kB/\1 \2/p" /proc/$(cat /run/xenmsgd.pid)/smaps_rollup'; }
resident_in_all() { resident | sed -n 's/^Rss //p'; }

# It needs memory for eight more guests: --memory 5000. doc/running-on-xen.md, How small it is, has the figures of a small build.
test_a_daemon_with_ten_links_is_small() { # named
	local guest others='u13 u6 u7 u8 u9 u10 u11 u12'
	for guest in $GUESTS; do daemon_stop "$guest"; done
	daemon_restart dom0
	resident
	for guest in $others; do
		guest_create "$guest" && guest_up "$guest"
		daemon_start "$guest"
	done
	for guest in $GUESTS; do daemon_start "$guest"; done
	for guest in $GUESTS $others; do pings_soon dom0 "$guest"; done
	on dom0 'linked() { [ "$(xenmsg status --json | grep -c "\"state\": *\"up\"")" = 10 ]; }; eventually 20 linked'
	resident
	[ "$(resident_in_all)" -lt 6144 ]
	for guest in $others; do guest_destroy "$guest"; done
}
