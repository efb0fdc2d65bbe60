# SPDX-License-Identifier: LGPL-2.1-or-later
# Guests are saved, restored and migrated, and daemons hand over, in the midst of traffic, as fast as it goes: programs see a pause and
# nothing else. rig-traffic compares every byte that arrives. Each way is gone RIG_rounds times (tests/xen/run --rounds).

# move GUEST HOW
move() {
	local before
	[ "$2" != renew ] || { hand_over "$1"; return; }
	before=$(domid "$1")
	case $2 in
	checkpoint) save "$1" /tmp/moved -c ;;
	save) save "$1" /tmp/moved && xl restore /tmp/moved ;;
	migrate) migrate "$1" ;;
	esac
	rm -f /tmp/moved
	[ "$2" != checkpoint ] || return 0
	is_restored "$1"
	[ "$(domid "$1")" != "$before" ]
}
migrate() { xl migrate -s '' "$1" 'xl migrate-receive'; } # to this host, without ssh

# patient NAME...: their daemons, and they see each other. A save takes as long as the machine has other things to do.
patient() {
	for name; do daemon_restart "$name" 'resume-for = 600s'; done
	see_each_other "$@"
}

# moves 'GUEST:HOW...' 'ONE:OTHER...': what happens in each round, while there is traffic between these
moves() {
	local round=0 step pair
	for pair in $2; do traffic "${pair%:*}" "${pair#*:}"; done
	while [ $round -lt "$RIG_rounds" ]; do
		round=$((round + 1))
		for step in $1; do
			move "${step%:*}" "${step#*:}"
			for pair in $2; do traffic_goes_on "${pair%:*}" "${pair#*:}"; done
			now
			echo "round $round, $step: all goes on at $NOW ms"
		done
	done
	for pair in $2; do traffic_ends "${pair%:*}" "${pair#*:}"; done
	eventually 10 no_zombies
}

test_traffic_goes_on_while_a_guest_is_saved() { # both, smoke, smoke_both, save
	spare
	ready u3
	patient dom0 u1 u3
	moves 'u3:checkpoint u3:save' 'dom0:u3 u1:u3'
	knows_its_domid u3
	no_complaint u3
}

# In all roles: domain 0, a guest that maps, and one that grants; also right before and after a save.
test_traffic_goes_on_while_daemons_hand_over() { # both
	patient dom0 u1 u2
	moves 'dom0:renew u1:renew u2:renew' 'dom0:u1 u1:u2'
}

# A daemon that is stopped or renewed then may have no thread that waits for XenStore. A link needs none.
test_traffic_goes_on_while_xenstore_stands_still() { # both
	local pid
	patient dom0 u1
	traffic dom0 u1
	background u1 renewed 'sleep 15; xenmsg daemon renew 2>/tmp/words; [ $? != 0 ] && cat /tmp/words && grep "answer within" /tmp/words'
	background u2 stopped 'sleep 15; now; began=$NOW; stop_daemon && now && [ $((NOW - began)) -lt 30000 ]'
	pid=$(pidof oxenstored || pidof xenstored)
	(sleep 60; kill -CONT "$pid") &
	kill -STOP "$pid"
	on dom0 'for i in 1 2 3 4; do sleep 10; goes_on dom0-u1 || exit; done'
	wait $!
	ended u1 renewed 0
	ended u2 stopped 0
	daemon_start u2
	arrives u2 u1
	hand_over u1
	traffic_goes_on dom0 u1
	traffic_ends dom0 u1
}

# It goes on as the program that is installed, with what it knows of all domains.
test_traffic_goes_on_while_xenstore_is_updated() { # both
	command -v xenstore-control || exit 77
	patient dom0 u1 u2
	traffic dom0 u1
	traffic u1 u2
	xenstore-control live-update -s "$(readlink -f "$(command -v "$RIG_store")")"
	for name in dom0 u2; do hand_over "$name"; done
	traffic_goes_on dom0 u1
	traffic_goes_on u1 u2
	daemon_restart u2
	arrives u2 dom0
	traffic_ends dom0 u1
}

test_traffic_goes_on_while_all_hand_over_and_one_is_saved() { # save
	spare
	ready u3
	patient dom0 u1 u3
	moves 'u3:renew u3:save u3:renew dom0:renew u3:checkpoint u1:renew' 'dom0:u3 u1:u3'
	knows_its_domid u3
	no_complaint u3
}

# Not among all tests: it takes long, since a hand-over has the CPU of domain 0 with a save beside it. --rounds 20 gives it the time.
test_a_hundred_hand_overs_while_a_guest_is_saved() { # named, save
	local number=0
	spare
	ready u3
	patient dom0 u1 u3
	traffic dom0 u3
	traffic u1 u3
	(for number in $(seq 5); do save_under_hand_overs; done) &
	while [ $number -lt 50 ]; do
		number=$((number + 1))
		hand_over dom0
		hand_over u1
		# At once, so that the logs have what has happened. u3, which may be away just now, ends no traffic that they don't.
		on_each 'dom0 u1' '! cat /tmp/*.status || { cat /tmp/*.out; false; }' || fail "the traffic has ended in turn $number"
	done
	wait $!
	for number in dom0 u1; do traffic_goes_on "$number" u3; done
	for number in dom0 u1; do traffic_ends "$number" u3; done
	knows_its_domid u3
	no_complaint u3
}
save_under_hand_overs() { move u3 save && sleep 1; }

# Xen can't migrate PV guests where it is built without CONFIG_SHADOW_PAGING, as Debian's is. The guest goes on.
test_traffic_goes_on_after_a_migration_that_fails() { # save
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

# Not among all tests: under emulation a PVH guest needs minutes, and sometimes several attempts, to start. Once it runs the
# emulator lets it die by a triple fault now and then, as Xen says: then another guest begins, and makes the same step.
# In both roles: domain 0 maps what it grants, and it maps what the other guest grants.
test_traffic_goes_on_while_a_pvh_guest_is_saved_and_migrated() { # named, save
	local round=0 done=0 died=0 step
	spare
	ready u3
	rm -f /run/rig/pvh-runs
	while [ $round -lt "$RIG_rounds" ]; do
		round=$((round + 1))
		for step in "$PVH:checkpoint" "$PVH:save" "$PVH:migrate" u3:save; do
			while :; do
				pvh_goes_on "round $round" "$step" &
				wait $! && break
				triple_fault || fail "$step, after $done that went well"
				died=$((died + 1))
				[ $died -le $((RIG_rounds * 4)) ] || fail "too many guests have died of triple faults"
				rm -f /run/rig/pvh-runs
			done
			done=$((done + 1))
		done
	done
	on "$PVH" 'xenmsg status --json | grep -o "\"role\": *\"[a-z]*\"" | sort -u'
	for step in dom0 u3; do traffic_ends "$step" "$PVH"; done
	knows_its_domid "$PVH"
	no_complaint "$PVH"
	no_complaint u3
	echo "$done moves; $died guests have died of triple faults"
	guest_destroy "$PVH"
}

# pvh_begins: a new one, and traffic with it
pvh_begins() {
	local other
	for other in dom0 u3; do on "$other" "! [ -e /tmp/$other-$PVH.pid ] || kill -9 \$(cat /tmp/$other-$PVH.pid) || :"; done
	! xl domid "$PVH" || guest_destroy "$PVH"
	pvh_guest
	triple_fault || :
	ready "$PVH"
	patient dom0 u3 "$PVH"
	for other in dom0 u3; do traffic "$other" "$PVH"; done
	: >/run/rig/pvh-runs
}

# pvh_goes_on ROUND STEP
pvh_goes_on() {
	local other
	[ -e /run/rig/pvh-runs ] || pvh_begins
	move "${2%:*}" "${2#*:}"
	for other in dom0 u3; do traffic_goes_on "$other" "$PVH"; done
	now
	echo "$1, $2: all goes on at $NOW ms"
}

# triple_fault: since it was last asked for
triple_fault() { xl dmesg -c | grep 'Triple fault'; }

# A host that goes down as Debian's do it: xendomains saves the guests, one after the other, then domain 0's daemon is stopped; and when
# the host is there again, they are restored. Meanwhile each sends to the other, through domain 0: each send ends once, and what
# it says holds.
test_a_host_that_goes_down_keeps_what_its_guests_send() { # both, save
	local name
	spare
	ready u3
	see_each_other dom0 u2 u3
	for name in u2 u3; do receiver "$name" down; done
	sends u2 u3
	sends u3 u2
	for name in u2 u3; do on "$name" 'eventually 30 has_lines /tmp/down.got'; done
	mkdir -p /mnt/saved
	mount -t tmpfs -o size=400m none /mnt/saved
	for name in u2 u3; do save "$name" "/mnt/saved/$name"; done
	daemon_stop dom0
	daemon_start dom0
	for name in u2 u3; do
		xl restore "/mnt/saved/$name"
		rm "/mnt/saved/$name"
		is_restored "$name"
	done
	umount /mnt/saved
	for name in u2 u3; do knows_its_domid "$name"; done
	for name in u2 u3; do on "$name" 'eventually 60 gets_more /tmp/down.got'; done
	for name in u2 u3; do on "$name" 'touch /tmp/down.stop'; done
	for name in u2 u3; do ended "$name" sends 0; done
	for name in u2 u3; do on "$name" 'xenmsg send self:down end && eventually 20 grep -qx end /tmp/down.got'; done
	is_told_right u2 u3
	is_told_right u3 u2
	for name in u2 u3; do no_complaint "$name"; done
}

# sends FROM TO: numbers, one after the other, by TO's name; /tmp/sends.out has each with the status of its send
sends() {
	background "$1" sends "rm -f /tmp/down.stop; number=0; until [ -e /tmp/down.stop ]; do number=\$((number + 1))
		xenmsg send --timeout 100 $2:down $1-\$number 2>/dev/null; echo $1-\$number \$?; done"
}

# is_told_right FROM TO: delivered (0) is there once, an outcome that isn't known (6, 8) at most once, and no other one is there
is_told_right() {
	on "$1" 'cat /tmp/sends.out' >/tmp/sends.out
	on "$2" 'cat /tmp/down.got' >/tmp/sends.got
	awk 'FNR == NR { got[$1]++; next } { ended[$2]++; if (got[$1] > 1 || ($2 == 0) != (got[$1] == 1) && $2 != 6 && $2 != 8) { print $1, $2, got[$1] + 0; wrong = 1 } }
		END { for (status in ended) print ended[status], "ended with", status; exit wrong || ended[0] < 2 }' /tmp/sends.got /tmp/sends.out
}
