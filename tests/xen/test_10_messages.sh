# SPDX-License-Identifier: LGPL-2.1-or-later
# Messages between the domains, in every direction.

# arrives FROM TO: one message, and the command at both ends
arrives() {
	on "$2" "rm -f /tmp/got; (xenmsg recv inbox --count 1 --timeout 30 >/tmp/got 2>/tmp/recv.err) & "
	eventually 10 on "$2" 'xenmsg endpoints | grep -q inbox'
	on "$1" "xenmsg send --timeout 20 $(domid "$2"):inbox 'hello from $1'"
	eventually 10 on "$2" "grep -qx 'hello from $1' /tmp/got"
}

test_guest_to_guest() { arrives u2 u1; }
test_guest_to_guest_with_the_other_role() { arrives u1 u2; }
test_guest_to_dom0() { arrives u1 dom0; }
test_dom0_to_guest() { arrives dom0 u2; }
test_to_oneself() { arrives u1 u1; }
