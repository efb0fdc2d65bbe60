# SPDX-License-Identifier: LGPL-2.1-or-later
# Messages between the domains, in every direction.

test_guest_to_guest() { arrives u2 u1; } # smoke, smoke_silo, smoke_dummy
test_guest_to_guest_with_the_other_role() { arrives u1 u2; } # smoke_dummy
test_guest_to_dom0() { arrives u1 dom0; } # smoke, smoke_silo
test_dom0_to_guest() { arrives dom0 u2; }
test_to_oneself() { arrives u1 u1; }

test_an_endpoint_that_is_not_there_is_3() {
	on u2 "xenmsg send --timeout 40 $(domid u1):nobody x; [ \$? = 3 ]"
}

test_a_domain_that_is_not_there_is_5() {
	on u2 'xenmsg send --timeout 40 999:inbox x; [ $? = 5 ]'
}

# big FROM TO: the largest message there is. Its parts repeat, but nowhere at the same distance from a page's beginning.
big() {
	local sum
	receiver "$2" big --raw --count 1 --timeout 120
	sum=$(on "$1" "for i in 1 2 3 4 5 6 7 8 9; do echo part \$i; cat /bin/busybox; done >/tmp/big; truncate -s 16777216 /tmp/big
		xenmsg send --timeout 120 --file /tmp/big $(domid "$2"):big && md5sum </tmp/big; wc -c </tmp/big; rm /tmp/big")
	[ "$(on "$2" 'await big 0 && md5sum </tmp/big.got; wc -c </tmp/big.got; rm /tmp/big.got')" = "$sum" ]
	echo "$sum" | grep -qx 16777216
}

test_16_mib_from_guest_to_guest() {
	big u1 u2
	big u2 u1
}

test_16_mib_between_dom0_and_guest() { # smoke_silo
	big dom0 u1
	big u1 dom0
}

# many FROM TO COUNT: none is missing, doubled or out of its order. Without --timeout, which makes it wait for each line.
many() {
	receiver "$2" many --count "$3" --timeout 120
	on "$1" "seq 1 $3 | xenmsg send --lines $(domid "$2"):many"
	on "$2" "await many 0 && seq 1 $3 | cmp - /tmp/many.got"
}

test_ten_thousand_in_order_from_guest_to_guest() { many u2 u1 10000; }
test_ten_thousand_in_order_from_dom0_to_guest() { many dom0 u2 10000; }
test_ten_thousand_in_order_from_guest_to_dom0() { many u2 dom0 10000; }

test_both_directions_at_once() {
	receiver u1 many --count 1000 --timeout 120
	receiver u2 many --count 1000 --timeout 120
	background u1 one "seq 1 1000 | xenmsg send --lines $(domid u2):many"
	on u2 "seq 1 1000 | xenmsg send --lines $(domid u1):many"
	ended u1 one 0
	on_each 'u1 u2' 'await many 0 && seq 1 1000 | cmp - /tmp/many.got'
}
