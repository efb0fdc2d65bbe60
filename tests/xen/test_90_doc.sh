# SPDX-License-Identifier: LGPL-2.1-or-later
# The commands in doc/running-on-xen.md work as they stand there.

# blocks NAME: those marked for that domain, one after the other
blocks() {
	awk -v mark="<!-- run: $1 -->" '
		index($0, mark) { wanted = 1; next }
		wanted && /```sh/ { inside = 1; next }
		inside && /```/ { wanted = inside = 0; print "true"; next }
		inside { sub(/^  /, ""); print }' /rig/running-on-xen.md
}

test_commands_of_running_on_xen() {
	for name in dom0 $GUESTS; do
		[ "$(blocks "$name" | wc -l)" -gt 1 ]
		on "$name" "set -e
$(blocks "$name")"
	done
	on u1 'echo 1024 >/sys/module/xen_gntalloc/parameters/limit'
}
