# SPDX-License-Identifier: LGPL-2.1-or-later
# The host's policy, of domain 0 for three guests, one of which xl's side gives a tag before it runs (examples/xl-tags.sh).

# host_policy [TEXT]: this one is in force
host_policy() {
	mkdir -p /etc/xenmsg/host-policy.d
	echo "${1:-}" >/etc/xenmsg/host-policy.d/50-test.conf
	xenmsg policy reload
}

# own_policy NAME [RULE]: of a guest
own_policy() { on "$1" "echo '${2:-}' >/etc/xenmsg/policy.d/50-test.conf; xenmsg policy reload"; }

ALL='[rule]
from = *
to = *
action = allow'

# may FROM TO, may_not FROM TO: a message, at the first try; nobody need be there
may() { on "$1" "xenmsg send --timeout 40 $(domid "$2"):db x; [ \$? = 3 ]"; }
may_not() { on "$1" "xenmsg send --timeout 40 $(domid "$2"):db x; [ \$? = 4 ]"; }

test_who_runs_the_host_decides_for_three_guests() { # both
	local gone
	spare
	guest_destroy u3
	host_policy '[tags]
web =
[rule]
from = @web
to = u1
endpoint = db
action = allow
[rule]
from = *
to = u1
endpoint = db
action = deny'
	own_policy u1 # which lets in nobody
	guest_configure u3
	/rig/xl-tags.sh create u3 /run/rig/u3.cfg web other
	xl domid u3 >/run/rig/u3.domid
	guest_up u3
	ready u3
	# Each of these is the first message between the two.
	receiver u1 db --count 1 --timeout 60
	on u3 "xenmsg send --timeout 40 $(domid u1):db 'of a tagged one'"
	on u1 'await db 0 && read -r got </tmp/db.got && [ "$got" = "of a tagged one" ]'
	may_not u2 u1
	may_not dom0 u1
	own_policy u1 "$ALL"
	may_not u2 u1 # what the host denies, whatever the guest says
	may u2 u3     # no rule of the host's is about that
	xenmsg policy check u3 u1:db | grep -q 'allow: .*50-test.conf, line 3'
	xenmsg policy check u2 u1:db | grep -q 'deny: .*50-test.conf, line 8'
	/rig/xl-tags.sh set u3
	eventually 20 may_not u3 u1
	gone=$(domid u3)
	/rig/xl-tags.sh set u3 web
	eventually 20 may u3 u1
	guest_destroy u3
	! xenstore-exists "/local/domain/$gone/xenmsg" || fail 'its tags stay when it has gone'
	spare
	ready u3
	may_not u3 u1 # another domain of that name
	host_policy
	eventually 20 may u2 u1
}
