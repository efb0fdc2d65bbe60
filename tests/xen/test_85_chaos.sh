# SPDX-License-Identifier: LGPL-2.1-or-later
# All at once, at random: daemons hand over and are killed, guests are saved, restored and paused, while messages, calls, streams with
# digests and a topic with numbers go on. Nobody who did nothing wrong is told of an error.

. /rig/tests/test_16_topics.sh
. /rig/tests/test_55_moves.sh

# disturb STEP: u2's programs are those that may lose something
disturb() {
	case $1 in
	0) hand_over dom0 ;;
	1) hand_over u1 ;;
	2) hand_over u3 ;;
	3) move u3 save ;;
	4) move u3 checkpoint ;;
	5) xl pause u3 && sleep 3 && xl unpause u3 ;;
	6) daemon_kill u2 && daemon_start u2 && arrives u1 u2 && arrives u2 dom0 ;;
	esac
}

# Not among all tests: it goes on for RIG_rounds minutes.
test_chaos_on_real_xen_loses_nothing() { # named, both, save
	local name step number=0 count steps='' began publishing last
	spare
	ready u3
	patient dom0 u1 u3
	RANDOM=${RIG_seed:-1}
	for name in dom0 u1; do traffic "$name" u3; done
	publisher
	for name in u1 u3; do subscriber "$name" numbers; done
	rm -f /tmp/enough
	publishes &
	publishing=$!
	now
	began=$NOW
	while now && [ $((NOW - began)) -lt $((RIG_rounds * 60000)) ]; do
		number=$((number + 1))
		step=$((RANDOM % 7))
		steps="$steps $step"
		disturb $step 9>&- || fail "step $step, the ${number}th"
		on_each 'dom0 u1 u3' '! cat /tmp/*-u3.status || { cat /tmp/*-u3.out; false; }' || fail "the traffic has ended in step $number, a $step"
		[ $((number % 5)) != 0 ] || for name in dom0 u1; do traffic_goes_on "$name" u3; done
	done
	for name in dom0 u1; do traffic_goes_on "$name" u3; done
	for name in dom0 u1; do traffic_ends "$name" u3; done
	: >/tmp/enough
	wait $publishing
	read -r last </tmp/last
	for name in u1 u3; do
		has_come "$name" numbers "$last"
		count=$(how_many_came "$name" numbers)
		[ $((count + $(were_missed "$name" numbers))) = "$last" ]
		on "$name" 'kill $(cat /tmp/numbers.pid)'
	done
	publisher_ends
	for name in u1 u2 u3; do no_complaint "$name"; done
	eventually 10 no_zombies
	echo "$number steps, of each kind: $(echo "$steps" | tr ' ' '\n' | sed '/^$/d' | sort | uniq -c | awk '{ printf "%s:%s ", $2, $1 }')and $last numbers"
}
