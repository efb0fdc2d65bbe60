# SPDX-License-Identifier: LGPL-2.1-or-later
# More cases (cases.sh): what programs do that don't keep to the usual way, and what a domain's life shows from outside. Beside the
# functions of lib.sh they use `pause NAME`, `unpause NAME`, `crash NAME`, `power_off NAME`, and `recreate NAME preserve`, which makes
# a domain that stays when it crashes.

# daemonized TAG: the program goes on as its own child, whose parent has ended
daemonized() {
	local pid
	pid=$(word 2 "$(ask "$1" daemonize)")
	eval "on \"\$domain_of_$1\" \"echo $pid >$(program_dir "$1")/pid\""
	echo "$pid" | grep -qx '[0-9]*' && echo yes
}

case_a_granter_forks() {
	programs A u1 B u2
	vchan_like A B
	show 'a granter goes on as its child' "$(daemonized A)"
	show 'the peer is not told, and the byte is still there' "$(ask B poll 0 300) $(ask B peek 0 22)"
	show 'what the child writes, the peer reads' "$(ask A poke 0 100 42) $(ask B peek 0 100)"
	show 'the child reads what the peer writes' "$(ask B poke 0 101 43) $(ask A peek 0 101)"
	show 'the child notifies' "$(ask A notify 0 "$port") $(ask B poll 0 3000)"
	show 'the peer notifies' "$(ask B notify 0 "$other") $(ask A poll 0 3000)"
	[ "$(ask A pending 0)" = "ok $port" ] && echo 'that is read by the child'
	show 'the child unmasks, and has the next one' "$(ask A unmask 0 "$port") $(ask B notify 0 "$other") $(ask A poll 0 3000)"
	show_verdict 'the child binds one more port' "$(ask A bind-unbound 0 "$(domid u2)")"
	show_verdict 'and grants one more page' "$(ask A share "$(domid u2)" 1 1)"
	kill_program A
	show 'it is killed, and the peer has an event' "$(ask B pending 0 >/dev/null; ask B unmask 0 "$other" >/dev/null; ask B poll 0 5000)"
	show 'and the byte is' "$(ask B peek 0 22)"
}

# What gntdev does with the memory of a mapper, which depends on what kind of guest it is: u2 is of that kind.
mappings() {
	programs A u1 B u2
	vchan_like A B
	show 'a notification of a byte in a mapping for reading' "$(ask B map-notify-read "$(domid u1)" "$ref" 23 "$other" | cut -d' ' -f1,2)"
	show 'of a port alone' "$(ask B map-notify-read "$(domid u1)" "$ref" 4294967295 "$other" | cut -d' ' -f1)"
	show 'the child of a mapper reads' "$(ask A poke 0 100 42) $(ask B child-peek 0 100)"
	show 'and the peer is not told' "$(ask A poll 0 300) $(ask A peek 0 23)"
	show 'the mapping is unmapped by munmap alone' "$(ask B munmap 0 0 1)"
	show 'the granter has an event' "$(ask A poll 0 500)"
	show 'and the byte is' "$(ask A peek 0 23)"
	show 'it is unmapped as it should be' "$(ask B unmap 0)"
	show 'it is mapped once more, and the handle is closed' "$(ask B map "$(domid u1)" "$ref" 1 1 | cut -d' ' -f1) $(ask B reopen)"
	show 'that goes on' "$(ask B peek 2 100)"
	show 'the granter has an event' "$(ask A poll 0 500)"
	show 'and the byte is' "$(ask A peek 0 23)"
	show 'that mapping is unmapped by munmap, too' "$(ask B munmap 2 0 1)"
	show 'and the one of a port alone' "$(ask B munmap 1 0 1)"
	show 'the granter has an event' "$(ask A poll 0 1000)"
	show 'and the byte is' "$(ask A peek 0 23)"
}
case_mappings_of_a_pv_guest() { mappings; }
case_mappings_of_a_pvh_guest() { mappings; }

# Which references come when: rN names the Nth that was seen.
seen() {
	local ref n
	for ref; do
		n=1
		# shellcheck disable=SC2086
		for known in $all_refs; do [ "$known" != "$ref" ] || break; n=$((n + 1)); done
		case " $all_refs " in *" $ref "*) ;; *) all_refs="$all_refs $ref" ;; esac
		printf 'r%s ' "$n"
	done
}
granted() { echo "$1" | cut -d' ' -f3-; }
case_references() {
	all_refs=
	program A u1
	a=$(ask A share "$(domid u2)" 1 1)
	seen $(granted "$a") >/tmp/conformance-seen; show 'a page is granted' "$(cat /tmp/conformance-seen)"
	ask A unshare 0 >/dev/null
	a=$(ask A share "$(domid u2)" 1 1)
	seen $(granted "$a") >/tmp/conformance-seen; show 'taken back, and another is granted' "$(cat /tmp/conformance-seen)"
	a=$(ask A share "$(domid u2)" 3 1)
	seen $(granted "$a") >/tmp/conformance-seen; show 'three more' "$(cat /tmp/conformance-seen)"
	ask A unshare 1 >/dev/null
	ask A unshare 2 >/dev/null
	a=$(ask A share "$(domid u2)" 4 1)
	seen $(granted "$a") >/tmp/conformance-seen; show 'all are taken back, and four granted' "$(cat /tmp/conformance-seen)"
}

case_event_corners() {
	local port other
	programs A u1 B u2 C dom0
	{ ask A evtchn-open; ask B evtchn-open; ask B evtchn-open; ask C evtchn-open; ask C evtchn-open; } >/dev/null
	port=$(word 2 "$(ask A bind-unbound 0 32752)")
	show_verdict 'a domain binds to a port of its own, both under the number of self' "$(ask A bind-interdomain 0 32752 "$port")"
	show_verdict 'and by its own number' "$(port=$(word 2 "$(ask A bind-unbound 0 32752)"); ask A bind-interdomain 0 "$(domid u1)" "$port")"
	show_verdict 'a port for a domain that does not exist' "$(ask A bind-unbound 0 999)"
	show_verdict 'for a number that no domain has' "$(ask A bind-unbound 0 32760)"
	show 'to bind to a port of such a number' "$(ask A bind-interdomain 0 32760 1)"
	show 'to a port beyond all' "$(ask A bind-interdomain 0 "$(domid u2)" 200000)"
	show 'a handle is restricted to another domain' "$(ask B evtchn-restrict 1 "$(domid u1)")"
	show 'then it binds for that one' "$(ask B bind-unbound 1 "$(domid u1)")"
	show 'for another' "$(ask B bind-unbound 1 0)"
	show_verdict 'to a port of that one' "$(port=$(word 2 "$(ask A bind-unbound 0 "$(domid u2)")"); ask B bind-interdomain 1 "$(domid u1)" "$port")"
	show 'of another' "$(port=$(word 2 "$(ask C bind-unbound 0 "$(domid u2)")"); ask B bind-interdomain 1 0 "$port")"
	show 'it is restricted once more' "$(ask B evtchn-restrict 1 "$(domid u1)")"
	show 'a handle is restricted to domain 0, and to a number that no domain has' "$(ask B evtchn-restrict 0 0) $(ask B evtchn-restrict 0 32752)"
	show 'in domain 0' "$(ask C evtchn-restrict 1 "$(domid u1)")"
	show 'once it has a port' "$(ask B bind-unbound 0 0 | cut -d' ' -f1) $(ask B evtchn-restrict 0 "$(domid u1)")"
	show 'a handle for grants with a flag' "$(ask A gnttab-open 1)"
	show 'the state of a port that was never used' "$(ask C port-status "$(domid u1)" 62)"
	show 'domain 0 binds 5000 ports' "$(ask C bind-many 0 "$(domid u1)" 5000)"

	bound A B
	other2=$other
	bound A B
	for tag in 1 2 3 4 5 6 7 8 9; do ask A nonblock 0; ask A pending 0; done >/dev/null
	show 'a handle is watched for edges' "$(ask A edge 0) $(ask A edge-wait 300)"
	show 'two ports have an event' "$(ask B notify 0 "$other") $(ask B notify 0 "$other2") $(ask A edge-wait 3000)"
	show 'one is read, and there is no second edge' "$(ask A pending 0 | cut -d' ' -f1) $(ask A edge-wait 300)"
	show 'nor when the port has one more' "$(ask A unmask 0 "$port") $(ask B notify 0 "$other") $(ask A edge-wait 300)"
	show 'until all are read' "$(ask A pending 0 | cut -d' ' -f1) $(ask A pending 0 | cut -d' ' -f1) $(ask A pending 0) $(ask A edge-wait 300)"
	show 'and one comes' "$(ask A unmask 0 "$port") $(ask B notify 0 "$other") $(ask A edge-wait 3000)"
}

# Of domain 0, VIRQ_DOM_EXC (3) is xenstored's, as long as that lives.
case_virqs() {
	local port
	programs A u1 C dom0
	{ ask A evtchn-open; ask A evtchn-open; ask C evtchn-open; } >/dev/null
	port=$(ask A bind-virq 0 3)
	show_verdict 'a guest binds a virtual interrupt' "$port"
	port=$(word 2 "$port")
	show 'once more, and by another handle' "$(ask A bind-virq 0 3) $(ask A bind-virq 1 3)"
	show 'it has no event, and sends none' "$(ask A poll 0 300) $(ask A notify 0 "$port") $(ask A poll 0 300)"
	show 'domain 0 is told what it is' "$(ask C port-status "$(domid u1)" "$port")"
	show 'somebody binds to the port' "$(ask C bind-interdomain 0 "$(domid u1)" "$port")"
	show 'it is unbound, and bound by another handle' "$(ask A unbind 0 "$port") $(word 1 "$(ask A bind-virq 1 3)")"
	show 'that is closed, and it is bound again' "$(ask A evtchn-close 1) $(word 1 "$(ask A bind-virq 0 3)")"
	show 'a guest binds those that there are, but for' "$(ask A bind-virqs 0 0 25)"
	show 'domain 0, but for' "$(ask C bind-virqs 0 0 2) $(ask C bind-virqs 0 4 25)"
	show 'a handle that is restricted binds one' "$(ask A evtchn-open | cut -d' ' -f1) $(ask A evtchn-restrict 2 "$(domid u2)") $(ask A bind-virq 2 12)"
}

# What a toolstack has Xen do to a domain.
case_toolstack() {
	local domid
	programs A u1 C dom0
	domid=$(domid u2)
	show 'domain 0 pauses a guest twice, and lets it go on twice' "$(ask C pause-domain "$domid") $(ask C pause-domain "$domid") $(ask C unpause-domain "$domid") $(ask C domain-state "$domid" | cut -d' ' -f3,4) $(ask C unpause-domain "$domid") $(ask C domain-state "$domid" | cut -d' ' -f3,4)"
	show 'once more, of a guest that runs' "$(ask C unpause-domain "$domid")"
	show 'itself it does not pause, nor destroy' "$(ask C pause-domain 0) $(ask C destroy-domain 0)"
	show 'nor what there is not' "$(ask C pause-domain 999) $(ask C unpause-domain 999) $(ask C destroy-domain 999) $(ask C shut-domain-down 999 3)"
	show 'a guest does nothing of that' "$(ask A pause-domain "$domid") $(ask A destroy-domain "$domid") $(ask A shut-domain-down "$domid" 3)"
	destroy u2
	recreate u2 preserve
	domid=$(domid u2)
	show 'a guest is shut down as if it had crashed' "$(ask C shut-domain-down "$domid" 3) $(ask C domain-end "$domid")"
	show 'once more, for another reason' "$(ask C shut-domain-down "$domid" 0) $(ask C domain-end "$domid")"
	show 'a pause is counted all the same' "$(ask C pause-domain "$domid") $(ask C unpause-domain "$domid") $(ask C unpause-domain "$domid") $(ask C domain-end "$domid")"
	show 'it is destroyed, and its home is there' "$(ask C destroy-domain "$domid") $(ask C xs-read "/local/domain/$domid/domid" | sed "s/ $domid\$/ U2/")"
	on dom0 "xenstore-rm /local/domain/$domid; xenstore-rm /libxl/$domid"
	recreate u2
}

# What a kernel has bound is not its programs'.
case_kernel_ports() {
	local store console
	programs A u1 C dom0
	{ ask A evtchn-open; ask C evtchn-open; } >/dev/null
	store=$(on dom0 "xenstore-read /local/domain/$(domid u1)/store/port")
	console=$(on dom0 "xenstore-read /local/domain/$(domid u1)/console/port")
	show 'domain 0 asks for the port of a guest for XenStore' "$(ask C port-status "$(domid u1)" "$store" | cut -d' ' -f1-3)"
	show 'for its console' "$(ask C port-status "$(domid u1)" "$console" | cut -d' ' -f1-3)"
	show 'a program of the guest notifies them' "$(ask A notify 0 "$store") $(ask A notify 0 "$console")"
	show 'and unbinds them' "$(ask A unbind 0 "$store") $(ask A unbind 0 "$console")"
	show 'and binds to them' "$(ask A bind-interdomain 0 "$(domid u1)" "$store") $(ask A bind-interdomain 0 "$(domid u1)" "$console")"
	show 'one of domain 0 does' "$(ask C bind-interdomain 0 "$(domid u1)" "$store") $(ask C bind-interdomain 0 "$(domid u1)" "$console")"
}

# Types: 0 is an ioreq server's, 1 the grant table.
case_resources() {
	programs A u1 C dom0
	show 'domain 0 maps the grant table of a domain that is not there' "$(ask C map-resource 999 1 0 0)"
	show 'the end of that of a guest' "$(ask C map-resource "$(domid u1)" 1 0 1000000)"
	show 'a table that there is not' "$(ask C map-resource "$(domid u1)" 1 7 0)"
	show 'a type that there is not' "$(ask C map-resource "$(domid u1)" 77 0 0)"
	show 'the page of a server for requests' "$(ask C map-resource "$(domid u1)" 0 0 0)"
	show 'domain 0 makes such a server' "$(ask C ioreq-server "$(domid u1)")"
	show 'for a domain that is not there' "$(ask C ioreq-server 999)"
	show 'a guest maps a grant table, its own, and a server'"'"'s page' "$(ask A map-resource "$(domid u2)" 1 0 0) $(ask A map-resource "$(domid u1)" 1 0 0) $(ask A map-resource "$(domid u2)" 0 0 0)"
	show 'of a domain that is not there' "$(ask A map-resource 999 1 0 0)"
	show 'and makes a server' "$(ask A ioreq-server "$(domid u2)")"
	console=$(on dom0 "xenstore-read /local/domain/$(domid u1)/console/ring-ref")
	show 'domain 0 restricts its handle to a guest, once more, and to another' "$(ask C foreign-restrict "$(domid u1)") $(ask C foreign-restrict "$(domid u1)") $(ask C foreign-restrict "$(domid u2)")"
	show 'then it maps of that one' "$(ask C foreign-map "$(domid u1)" 1 "$console")"
	show 'and not of another' "$(ask C foreign-map "$(domid u2)" 1 "$console") $(ask C map-resource "$(domid u2)" 77 0 0)"
	show 'a guest restricts its own' "$(ask A foreign-restrict "$(domid u2)")"
}

case_a_dead_peers_port() {
	local domid
	domid=$(domid u2)
	programs A u2 B u1
	{ ask A evtchn-open && ask B evtchn-open; } >/dev/null
	port=$(word 2 "$(ask A bind-unbound 0 "$(domid u1)")")
	ref=$(word 3 "$(ask A share "$(domid u1)" 1 1)")
	show_verdict 'a page of a domain is mapped' "$(ask B map "$domid" "$ref" 1 1)"
	destroy u2
	show 'it is destroyed, and a port of it is bound' "$(ask B bind-interdomain 0 "$domid" "$port")"
	ask B unmap 0 >/dev/null
	no_zombies_soon
	recreate u2
}

# What it was answered, without the generation and the names that happen to be there.
part() { echo "$1" | sed 's/^\(ok 22 \)[0-9][0-9]*|$/\1N end/; s/^\(ok 22 \)[0-9][0-9]*|..*/\1N names/'; }
case_raw_store() {
	local u1
	u1=$(domid u1)
	programs A u1 C dom0
	show 'domain 0 has the socket of xenstored' "$(ask C raw-socket /run/xenstored/socket)"
	show 'and is answered' "$(ask C raw-request 0 2 domid)"
	show 'by its other name, too' "$(ask C raw-socket /var/run/xenstored/socket) $(ask C raw-request 1 2 domid)"
	show 'a guest has none' "$(ask A raw-socket /run/xenstored/socket)"
	show 'a guest opens the device' "$(ask A raw-device /dev/xen/xenbus)"
	show 'and is answered' "$(ask A raw-request 0 2 domid | sed "s/ $u1\$/ U1/")"
	show 'it watches, and has the answer and an event, in whatever order' \
		"$({ ask A raw-request 0 4 'data/raw|token|'; ask A raw-event 0 3000; } | sort -n -k 2 | tr '\n' ' ')"
	show 'it writes that, and has the answer and one more, in whatever order' \
		"$({ ask A raw-request 0 11 'data/raw|1'; ask A raw-event 0 3000; } | cut -d' ' -f2 | sort | tr '\n' ' ')"
	show 'the device under its old name' "$(ask A raw-device /proc/xen/xenbus) $(ask A raw-request 1 2 domid | sed "s/ $u1\$/ U1/")"
	show 'domain 0 opens the device' "$(ask C raw-device /dev/xen/xenbus) $(ask C raw-request 2 2 domid)"
	show 'a part of a directory is asked for' "$(part "$(ask C raw-request 0 22 '/local|0')") $(part "$(ask A raw-request 0 22 'data|0')")"
	show 'beyond its end' "$(part "$(ask C raw-request 0 22 '/local|4000')") $(part "$(ask A raw-request 0 22 'data|4000')")"
	show 'of none, from nowhere, and without saying from where' "$(ask A raw-request 0 22 'data/no|0') $(part "$(ask A raw-request 0 22 'data|x')") $(ask A raw-request 0 22 'data|')"
	show 'to be restricted' "$(ask C raw-request 0 20 '1') $(ask A raw-request 0 20 '1')"
	show 'what the store can do' "$(ask C raw-request 0 23 x) $(ask A raw-request 0 23 x)"
	show 'for a quota' "$(ask C raw-request 0 25 x) $(ask A raw-request 0 25 x)"
	show 'a type that there is not' "$(ask C raw-request 0 77 x) $(ask A raw-request 0 77 x)"
	ask A xs-rm data/raw >/dev/null
}

# An event may overtake the answer to the request that caused it, or be overtaken by it, since a guest's kernel has a thread of its
# own for events. How often it does isn't said: with oxenstored, which answers first, it did for a new watch, and for none of 2000
# writes; with C xenstored, which answers last, 90 and 736 of 2000 came first.
case_store_orders() {
	local first
	programs A u1 C dom0
	ask A raw-device /dev/xen/xenbus >/dev/null
	ask C raw-socket /run/xenstored/socket >/dev/null
	for tag in A C; do ask $tag raw-request 0 4 'data/orders|token|'; ask $tag raw-event 0 3000; done >/dev/null
	first=$(ask A raw-orders 0 2000)
	echo "of 2000 events in a guest, so many came before their answers: $first" >&2
	show 'a guest writes 2000 times, and has all answers and events' "$(word 1 "$first")"
	show 'by the socket, so many events come before their answers' "$(ask C raw-orders 0 2000)"
	for tag in A C; do ask $tag xs-rm data/orders; done >/dev/null
}

case_store_sizes() {
	program A u1
	show 'a request of 4096 bytes with its header' "$(ask A xs-size data/conformance 4063) $(ask A xs-read domid | cut -d' ' -f1)"
	end_program A
	program A u1
	show 'of one more' "$(ask A xs-size data/conformance 4064) $(ask A xs-read domid | cut -d' ' -f1)"
	end_program A
	program A u1
	show 'of 4096 without its header' "$(ask A xs-size data/conformance 4079) $(ask A xs-read domid | cut -d' ' -f1)"
	end_program A
	program C dom0
	show 'in domain 0' "$(ask C xs-size /local/domain/0/conformance 4064) $(ask C xs-read domid | cut -d' ' -f1)"
	ask C xs-rm /local/domain/0/conformance >/dev/null
}

# Memory of another domain by its frames, as device models map it.
case_foreign_memory() {
	programs A u1 C dom0
	show 'domain 0 maps a frame of a domain that is not there' "$(ask C foreign 999 256)"
	show 'a frame that a domain has not' "$(ask C foreign "$(domid u1)" 1048576000)"
	show 'a guest maps a frame of another' "$(ask A foreign "$(domid u2)" 256)"
	show 'of a domain that is not there' "$(ask A foreign 999 256)"
	show 'a frame that it has not itself' "$(ask A foreign "$(domid u1)" 1048576000)"
	console=$(on dom0 "xenstore-read /local/domain/$(domid u1)/console/ring-ref")
	store=$(on dom0 "xenstore-read /local/domain/$(domid u1)/store/ring-ref")
	# Behind what the rings have in their pages, nobody looks.
	show 'domain 0 maps the rings of a guest, and between them what there is not' "$(ask C foreign-map "$(domid u1)" 1 "$console" 1048576000 "$store")"
	show 'the first once more, for reading' "$(ask C foreign-map "$(domid u1)" 0 "$console")"
	show 'both are one page' "$(ask C poke 0 4000 42) $(ask C peek 1 4000)"
	show 'it is that of the first reference' "$(ask C map "$(domid u1)" 0 1 1) $(ask C peek 2 4000)"
	show 'of the second, the store is' "$(ask C poke 0 12192 43) $(ask C map "$(domid u1)" 1 1 1) $(ask C peek 3 3999) $(ask C peek 3 4000) $(ask C poke 0 12192 0)"
	show 'it is kept by its domain alone' "$(ask C foreign-unmap 0) $(ask C foreign-unmap 1) $(ask C unmap 2) $(ask C map "$(domid u1)" 0 1 1) $(ask C peek 4 4000) $(ask C poke 4 4000 0)"
	show 'a guest maps none' "$(ask A foreign-map "$(domid u1)" 1 "$console") $(ask A map "$(domid u2)" 0 1 1)"
}

case_found_functions() {
	local port
	programs A u1 B u2
	ask B evtchn-open >/dev/null
	port=$(word 2 "$(ask A dl-bind "$(domid u2)")")
	show_verdict 'functions found by a handle bind a port, and the other end binds to it' "$(ask B bind-interdomain 0 "$(domid u1)" "$port")"
	other=$(word 2 "$(ask B pending 0)")
	show 'an event comes' "$(ask B notify 0 "$other") $(ask A dl-wait | cut -d' ' -f1)"
	show 'and is sent' "$(ask B unmask 0 "$other") $(ask A dl-notify "$port") $(ask B poll 0 3000)"
}

case_grant_copy() {
	local own_ref ref
	programs A u1 B u2
	ref=$(word 3 "$(ask A share "$(domid u2)" 1 1)")
	ask A poke 0 100 42 >/dev/null
	show 'bytes are copied from a page of another' "$(ask B copy "$(domid u1)" "$ref" 100 10)"
	show 'and to it' "$(ask B copy-to "$(domid u1)" "$ref" 200 10) $(ask A peek 0 200) $(ask A peek 0 209) $(ask A peek 0 210)"
	show 'of a page up to its end' "$(ask B copy "$(domid u1)" "$ref" 100 3996)"
	show 'beyond that' "$(ask B copy "$(domid u1)" "$ref" 100 3997)"
	show 'of a reference that there is not' "$(ask B copy "$(domid u1)" 30000 100 10)"
	show 'of a domain that there is not' "$(ask B copy 999 "$ref" 100 10)"
	ref=$(word 3 "$(ask A share "$(domid u2)" 1 0)")
	show 'from a page for reading, and to it' "$(ask B copy "$(domid u1)" "$ref" 100 10) $(ask B copy-to "$(domid u1)" "$ref" 200 10)"
	ref=$(word 3 "$(ask A share 0 1 1)")
	show 'from a page that is for another' "$(ask B copy "$(domid u1)" "$ref" 100 10)"
}

case_a_paused_watcher() {
	programs B u2 C dom0
	show 'a guest watches' "$(ask B xs-watch data/w) $(event B)"
	show 'and sleeps' "$(ask B sleep 4000)"
	pause u2
	show 'it is paused, and domain 0 writes 500 times' "$(ask C xs-writes "/local/domain/$(domid u2)/data/w" 500) $(ask C xs-written)"
	unpause u2
	show 'it goes on, and nothing has ended its sleep' "$(ask B slept)"
	show 'it has all events' "$(ask B xs-events 2000)"
	pause u2
	show 'it is paused, and domain 0 writes 20000 times' "$(ask C xs-writes "/local/domain/$(domid u2)/data/w" 20000)"
	writes=$(word 2 "$(ask C xs-written)")
	if [ "$writes" = 20000 ]; then echo 'all is written'; else echo "writing stops"; fi
	show 'meanwhile another domain writes' "$(program A u1; ask A xs-write data/x 1; ask A xs-rm data/x; end_program A)"
	unpause u2
	# It isn't told of the rest, and the writer goes on to wait, at least for some seconds.
	show 'it goes on, and has the first thousand' "$([ "$(word 2 "$(ask B xs-events 3000)")" -gt 1000 ] && echo yes)"
	ask B xs-rm data/w >/dev/null
}

# The names in a guest's home, who may do what with them, and what is theirs whatever the guest is.
home() {
	on dom0 "xenstore-ls -fp /local/domain/$1" | grep -v "^/local/domain/$1/data/\|/console/\(tty\|0\)\|/console/vnc" |
		sed "s|^/local/domain/$1|HOME|; s| = \"[^\"]*\"||; s|n$1\\b|nU|g; s|r$1\\b|rU|g; s|b$1\\b|bU|g" | sort
}
case_home() {
	local domid
	domid=$(domid u1)
	home "$domid"
	on dom0 "xenstore-ls -fp /vm/$(on dom0 "xenstore-read /local/domain/$domid/vm" | sed 's|^/vm/||')" | sed "s|^/vm/[^ /]*|VM|; s| = \"[^\"]*\"||; s|r$domid\\b|rU|g" | sort
	on dom0 "xenstore-ls -fp /libxl/$domid" | grep -v /device/ | sed "s|^/libxl/$domid|LIBXL|; s| = \"[^\"]*\"||; s|r$domid\\b|rU|g" | sort
	on dom0 "xenstore-ls -fp /local/domain/0" | grep -v '/backend\|/device-model/\|/conformance\|/data' | sed "s| = \"[^\"]*\"||" | sort
}

case_a_crash() {
	local domid
	destroy u2
	recreate u2 preserve
	domid=$(domid u2)
	programs A u2 B u1 C dom0
	vchan_like A B
	show 'domain 0 watches for the end of domains' "$(ask C xs-watch @releaseDomain) $(event C)"
	crash u2
	show 'a domain crashes, and domain 0 is told' "$(event C 30000)"
	show 'it has not died, and is shut down by a crash' "$(ask C domain-end "$domid")"
	show 'its home is there' "$(ask C xs-read "/local/domain/$domid/domid" | sed "s/ $domid\$/ U2/")"
	show 'its peer is not told, and the byte is' "$(ask B poll 0 300) $(ask B peek 0 22)"
	show 'events are sent to it' "$(ask B notify 0 "$other")"
	show_verdict 'its page is mapped once more' "$(ask B map "$domid" "$ref" 1 1)"
	destroy u2
	show 'it is destroyed, and domain 0 is told' "$(event C)"
	show 'its home has gone' "$(ask C xs-read "/local/domain/$domid/domid")"
	end_programs
	no_zombies_soon
	recreate u2
}

case_a_power_off() {
	local domid
	domid=$(domid u2)
	programs A u2 B u1 C dom0
	vchan_like A B
	show 'domain 0 watches for the end of domains' "$(ask C xs-watch @releaseDomain) $(event C)"
	power_off u2
	show 'a domain powers off, and its peer has an event' "$(ask B poll 0 10000)"
	show 'and the byte is' "$(ask B peek 0 22)"
	show 'domain 0 is told' "$(event C 20000)"
	end_programs
	no_zombies_soon
	show 'and the domain has gone' "$(ask_once "$domid")"
	recreate u2
}
ask_once() { program D dom0; ask D domain-end "$1"; end_program D; }

case_a_destroyed_home() {
	local domid
	domid=$(domid u2)
	program C dom0
	ask C xs-watch "/local/domain/$domid" >/dev/null
	event C >/dev/null
	background_ask C xs-event-and-end "/local/domain/$domid" "$domid"
	destroy u2
	show 'when the home of a destroyed domain goes, it is' "$(background_answer C)"
	no_zombies_soon
	recreate u2
}
# background_ask TAG WORD...: asks, and doesn't wait for the answer, which background_answer TAG gives
background_ask() {
	local tag=$1 dir
	dir=$(program_dir "$tag")
	shift
	eval "on \"\$domain_of_$tag\" \"echo '$*' >$dir/in\""
}
background_answer() { eval "on \"\$domain_of_$1\" \"read -r answer <$(program_dir "$1")/out; echo \\\"\\\$answer\\\"\""; }

case_suspension() {
	local domid
	program C dom0
	show 'domain 0 watches for the end of domains' "$(ask C xs-watch @releaseDomain) $(event C)"
	checkpoint u2
	show 'it is told of a suspension for a checkpoint' "$(event C)"
	domid=$(domid u2)
	show 'and the domain is neither dying nor shut down after it' "$(ask C domain-end "$domid")"
}
