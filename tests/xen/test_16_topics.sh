# SPDX-License-Identifier: LGPL-2.1-or-later
# Topics: domain 0 publishes, guests subscribe.

# publisher: the topic `news` of domain 0, to which the lines go that are written to file 9, and which keeps the last one
publisher() {
	rm -f /tmp/news
	mkfifo /tmp/news
	background dom0 publisher 'xenmsg publish --lines --retain news </tmp/news'
	exec 9>/tmp/news
	eventually 20 has_bound news
}

# publisher_ends: with the last line
publisher_ends() {
	exec 9>&-
	ended dom0 publisher 0
}

# subscriber NAME TAG [OPTION...]: xenmsg subscribe in the background, which is subscribed
subscriber() {
	local name=$1 tag=$2
	shift 2
	background "$name" "$tag" "sh -c 'echo \$\$ >/tmp/$tag.pid; exec xenmsg subscribe --json $* 0:news'"
	on "$name" "eventually 40 grep -q '\"subscribed\"' /tmp/$tag.out"
}

# came NAME TAG: the numbers that came, a line each
came() { on "$1" "sed -n 's/.*\"text\": *\"\([0-9]*\)\".*/\1/p' /tmp/$2.out"; }

# how_many_came NAME TAG: how many, counted where they are, since an answer has room for 2,000; it fails where one isn't above the last
how_many_came() { on "$1" "sed -n 's/.*\"text\": *\"\([0-9]*\)\".*/\1/p' /tmp/$2.out | awk '\$1 <= last { exit bad = 1 } { last = \$1 } END { print NR; exit bad }'"; }

# has_come NAME TAG NUMBER
has_come() { on "$1" "eventually 40 grep -q '\"text\": *\"$3\"' /tmp/$2.out"; }

# were_missed NAME TAG: how many it was told to have missed
were_missed() {
	local sum=0 count
	for count in $(on "$1" "sed -n '/\"missed\"/s/.*\"count\": *\([0-9]*\).*/\1/p' /tmp/$2.out"); do sum=$((sum + count)); done
	echo $sum
}

test_a_topic_of_dom0_reaches_both_guests_in_order() { # both
	local name
	publisher
	for name in u1 u2; do subscriber "$name" all --count 200; done
	seq 1 200 >&9
	for name in u1 u2; do
		ended "$name" all 0
		[ "$(came "$name" all)" = "$(seq 1 200)" ]
		on "$name" '! grep -E "\"(missed|kept|waiting)\"" /tmp/all.out'
	done
	subscriber u2 late --count 1
	ended u2 late 0
	[ "$(came u2 late)" = 200 ]
	on u2 'grep -q "\"kept\"" /tmp/late.out'
	publisher_ends
}

test_a_slow_guest_is_told_how_many_it_missed() { # both
	local name count missed
	publisher
	subscriber u2 slow --queue 4
	on u2 'kill -STOP $(cat /tmp/slow.pid)'
	for name in u1 u2; do subscriber "$name" quick --count 500; done
	seq 1 500 >&9
	for name in u1 u2; do
		ended "$name" quick 0
		[ "$(came "$name" quick)" = "$(seq 1 500)" ]
	done
	on u2 'kill -CONT $(cat /tmp/slow.pid)'
	has_come u2 slow 500
	on u2 'kill $(cat /tmp/slow.pid)'
	count=$(came u2 slow | wc -l) missed=$(were_missed u2 slow)
	echo "$count came, $missed were missed"
	[ "$count" -ge 4 ] && [ "$missed" -gt 400 ] && [ $((count + missed)) = 500 ]
	[ "$(came u2 slow)" = "$(came u2 slow | sort -n -u)" ]
	[ "$(came u2 slow | tail -n 4)" = "$(seq 497 500)" ]
	publisher_ends
}

# publishes: a number now and then, until /tmp/enough is there; the last one is in /tmp/last then
publishes() {
	local number=0
	while [ ! -e /tmp/enough ]; do
		number=$((number + 1))
		echo $number >&9
		usleep 50000
	done
	echo $number >/tmp/last
}

test_a_saved_guest_misses_nothing_that_was_published() { # both, save
	local name before publishing last
	spare
	for name in dom0 u3; do daemon_restart "$name" 'resume-for = 600s'; done
	see_each_other dom0 u3
	publisher
	subscriber u3 saved
	rm -f /tmp/enough
	publishes &
	publishing=$!
	has_come u3 saved 5
	before=$(domid u3)
	save u3 /tmp/saved
	xl restore /tmp/saved 9>&- # else the process that xl leaves there keeps the topic open
	rm /tmp/saved
	is_restored u3
	[ "$(domid u3)" != "$before" ]
	: >/tmp/enough
	wait $publishing
	read -r last </tmp/last
	has_come u3 saved "$last"
	[ "$(came u3 saved)" = "$(seq 1 "$last")" ]
	on u3 '! grep -E "\"(missed|waiting)\"" /tmp/saved.out && kill $(cat /tmp/saved.pid)'
	no_complaint u3
	echo "$last came"
	publisher_ends
}
