# SPDX-License-Identifier: LGPL-2.1-or-later
# What the conformance cases are written with. Whoever runs them defines `on NAME COMMAND` (run it in that domain), `domid NAME`,
# `destroy NAME`, `recreate NAME` (with another domid, as ever), `checkpoint NAME`, `save_and_restore NAME` and `zombies` (how many
# domains wait for others to unmap their pages), and ends a case by end_programs; the domains are dom0, u1 and u2. A program is a
# check-xen: Xen's own libraries, one call a line. What the cases show is what the caller of a library sees: the same on xensim and
# on real Xen (doc/xensim.md).

: "${RUN_ID:=$$}"

running= # the TAGs of the programs that haven't ended

program_dir() { echo "/tmp/conformance-$RUN_ID-$1"; }

# program TAG NAME: starts one in domain NAME. TAG names it afterwards. The holder keeps both pipes open between two questions.
program() {
	local dir
	dir=$(program_dir "$1")
	eval "domain_of_$1=$2"
	running="$running $1"
	on "$2" "rm -rf $dir; mkdir -p $dir; mkfifo $dir/in $dir/out
		sleep 600 <>$dir/in 3<>$dir/out & echo \$! >$dir/holder
		check-xen <$dir/in >$dir/out 2>$dir/err & echo \$! >$dir/pid
		read -r hello <$dir/out; cat $dir/err; case \$hello in ok*) ;; *) exit 1 ;; esac"
}

# programs TAG NAME...: one for each of these pairs
programs() {
	while [ $# -gt 0 ]; do
		program "$1" "$2"
		shift 2
	done
}

# ask TAG WORD...: the answer
ask() {
	local tag=$1 dir
	dir=$(program_dir "$tag")
	shift
	eval "on \"\$domain_of_$tag\" \"echo '$*' >$dir/in; read -r answer <$dir/out; echo \\\"\\\$answer\\\"\""
}

# kill_program TAG: by SIGKILL; end_program TAG: in order. A program that has ended may still wait for an init to take notice.
kill_program() {
	local dir
	has_ended "$1"
	dir=$(program_dir "$1")
	eval "on \"\$domain_of_$1\" 'kill -9 \$(cat $dir/pid); kill \$(cat $dir/holder); true'"
}
end_program() {
	local dir
	has_ended "$1"
	dir=$(program_dir "$1")
	eval "on \"\$domain_of_$1\" 'kill \$(cat $dir/holder); i=0; while grep -q \") [^XZ]\" /proc/\$(cat $dir/pid)/stat 2>/dev/null && [ \$i -lt 200 ]; do sleep 0.05; i=\$((i + 1)); done; rm -rf $dir'"
}
end_programs() {
	local tag
	for tag in $running; do end_program "$tag"; done
}
has_ended() { running=$(echo " $running " | sed "s/ $1 / /"); }
# have_ended NAME: all that ran in a domain, with it
have_ended() {
	local tag
	for tag in $running; do
		eval "[ \"\$domain_of_$tag\" != \"$1\" ]" || has_ended "$tag"
	done
}

# bound A B: a port of A's, and B's that is bound to it, by the handles 0 that both have opened: $port and $other
bound() {
	local first second
	eval "first=\$domain_of_$1 second=\$domain_of_$2"
	port=$(word 2 "$(ask "$1" bind-unbound 0 "$(domid "$second")")")
	other=$(word 2 "$(ask "$2" bind-interdomain 0 "$(domid "$first")" "$port")")
}

# vchan_like A B: A grants B's domain a page with an unmap notification, and B maps it with one of his own, as a vchan's ends do.
vchan_like() {
	local granter mapper
	eval "granter=\$domain_of_$1 mapper=\$domain_of_$2"
	ask "$1" evtchn-open && ask "$2" evtchn-open
	bound "$1" "$2"
	ref=$(word 3 "$(ask "$1" share-notify "$(domid "$mapper")" 22 "$port")")
	ask "$2" map-notify "$(domid "$granter")" "$ref" 23 "$other"
	ask "$1" poke 0 22 1
	ask "$1" poke 0 23 1
	ask "$2" poll 0 3000
	ask "$2" pending 0
	ask "$2" unmask 0 "$other"
} >/dev/null

# word N ANSWER
word() {
	local n=$1
	shift
	# shellcheck disable=SC2048,SC2086
	set -- $*
	eval "echo \"\${$n}\""
}

# Nothing tells when Xen has done with a dead domain whose last page was unmapped.
no_zombies_soon() {
	local i=0
	until [ "$(zombies)" = 0 ]; do
		i=$((i + 1))
		[ $i -lt 100 ] || { echo 'there are still zombies'; return 1; }
		sleep 0.1
	done
}

show() { echo "$1: $2"; }
# What differs from run to run, such as a port, is left out.
show_verdict() { echo "$1: $(word 1 "$2")$([ "$(word 1 "$2")" = ok ] || echo " $(word 2 "$2")")"; }
