# SPDX-License-Identifier: LGPL-2.1-or-later
# Limits of the kernel and of XenStore.

restart() {
	daemon_stop "$1"
	daemon_start "$@"
}

limit_grants() { on "$1" "echo $2 >/sys/module/xen_gntalloc/parameters/limit"; }
pings() { on "$1" "xenmsg ping --count 1 --timeout 5 $(domid "$2")" >/dev/null; }

test_few_grant_pages_make_smaller_rings() {
	restart u2
	limit_grants u2 40 # one link of 64 KiB each way takes 33
	eventually 20 pings u2 u1
	eventually 20 pings u2 dom0
	big_enough=$(on u2 'xenmsg status --json')
	limit_grants u2 1024
	echo "$big_enough" | grep -q '"ring_bytes": *65536'
	echo "$big_enough" | grep -qE '"ring_bytes": *(1024|2048|4096|8192)'
	arrives u2 dom0
}

test_no_grant_pages_make_a_link_wait_until_some_come_free() {
	daemon_stop dom0 # which every guest has a link with, for the names
	restart u2
	limit_grants u2 33
	eventually 20 pings u2 u1
	daemon_start dom0
	background u2 ping "xenmsg ping --count 1 --timeout 60 0"
	eventually 10 on u2 "xenmsg status --json | grep -q '\"waiting_links\": *1'"
	daemon_stop u1 # the first link ends
	ended u2 ping 0 || { limit_grants u2 1024; return 1; }
	limit_grants u2 1024
}

# fill NAME: as many nodes as its quota lets it have, twenty at a time and the last ones singly
fill() {
	on "$1" 'twenty() { i=0; while [ $i -lt 20 ]; do echo "data/fill/$1-$i x"; i=$((i + 1)); done; }
		n=0; while [ $n -lt 100 ] && xenstore-write $(twenty $n) 2>/dev/null; do n=$((n + 1)); done
		n=0; while [ $n -lt 50 ] && xenstore-write data/fill/last$n x 2>/dev/null; do n=$((n + 1)); done
		[ $n -lt 50 ] && ! xenstore-write data/one-more x'
}

test_a_used_up_xenstore_quota_passes() {
	daemon_stop u2
	fill u2
	on u2 'setsid rig-daemon >/dev/null 2>&1 &'
	eventually 20 daemon_runs u2
	on u2 "xenmsg ping --count 1 --timeout 3 $(domid u1); [ \$? != 0 ]"
	on u2 'xenstore-rm data/fill'
	eventually 70 pings u2 u1
	arrives u1 u2
}
