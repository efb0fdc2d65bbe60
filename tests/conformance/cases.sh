# SPDX-License-Identifier: LGPL-2.1-or-later
# The cases: what users of xengntshr, xengnttab, xenevtchn and libxenstore see of Xen. Each prints "question: answer".

case_grants() {
	local a ref
	programs A u1 B u2 C u1
	a=$(ask A share "$(domid u2)" 2 1)
	ref=$(word 3 "$a")
	show_verdict 'a page is granted' "$a"
	show_verdict 'the domain that it was granted to maps it' "$(ask B map "$(domid u1)" "$ref" 1 1)"
	show 'what the granter writes' "$(ask A poke 0 100 42)"
	show 'the mapper reads' "$(ask B peek 0 100)"
	show 'what the mapper writes' "$(ask B poke 0 101 43)"
	show 'the granter reads' "$(ask A peek 0 101)"
	show 'another domain maps it' "$(ask C map "$(domid u1)" "$ref" 1 1)"
	show 'a reference that was never granted' "$(ask B map "$(domid u1)" 60000 1 1)"
	show 'a domain that does not exist' "$(ask B map 999 "$ref" 1 1)"
	show 'it is taken back while it is mapped' "$(ask A unshare 0)"
	show 'the mapper still reads' "$(ask B peek 0 100)"
	show 'the mapper unmaps it' "$(ask B unmap 0)"
	show_verdict 'a domain grants to itself' "$(a=$(ask A share "$(domid u1)" 1 1); word 3 "$a" >/tmp/conformance-ref; echo "$a")"
	show_verdict 'and maps its own page' "$(ask A map "$(domid u1)" "$(cat /tmp/conformance-ref)" 1 1)"
	a=$(ask A share "$(domid u2)" 1 0)
	show_verdict 'a page is granted for reading' "$a"
	show_verdict 'it is mapped for reading' "$(ask B map "$(domid u1)" "$(word 3 "$a")" 1 0)"
	show 'it is mapped for writing' "$(ask B map "$(domid u1)" "$(word 3 "$a")" 1 1)"
}

case_grant_limit() {
	program A u1
	on u1 'echo 8 >/sys/module/xen_gntalloc/parameters/limit' || true
	show_verdict 'as many pages as the limit' "$(ask A share "$(domid u2)" 8 1)"
	show 'one more' "$(ask A share "$(domid u2)" 1 1)"
	show 'the handle is closed and opened' "$(ask A reopen)"
	show 'one more after that' "$(ask A share "$(domid u2)" 1 1)"
	show 'they are unmapped' "$(ask A munmap 0 0 8)"
	show_verdict 'one more after that one' "$(ask A share "$(domid u2)" 1 1)"
	end_program A
	on u1 'echo 1024 >/sys/module/xen_gntalloc/parameters/limit' || true
}

case_event_channels() {
	local port other
	programs A u1 B u2 C dom0
	{ ask A evtchn-open && ask B evtchn-open && ask C evtchn-open; } >/dev/null
	port=$(word 2 "$(ask A bind-unbound 0 "$(domid u2)")")
	show 'somebody else binds to the port' "$(ask C bind-interdomain 0 "$(domid u1)" "$port")"
	other=$(ask B bind-interdomain 0 "$(domid u1)" "$port")
	show_verdict 'the domain that it is for binds to it' "$other"
	other=$(word 2 "$other")
	show 'and once more' "$(ask B bind-interdomain 0 "$(domid u1)" "$port")"
	show 'a port that does not exist' "$(ask B bind-interdomain 0 "$(domid u1)" 1000)"
	show 'a domain that does not exist' "$(ask B bind-interdomain 0 999 "$port")"
	show 'who binds has an event at once' "$(ask B poll 0 3000)"
	show 'the other one has none' "$(ask A poll 0 300)"
	show 'one is sent' "$(ask B notify 0 "$other")"
	show 'it comes' "$(ask A poll 0 3000)"
	[ "$(ask A pending 0)" = "ok $port" ] && echo 'and is of that port'
	show 'the next one, while the port is masked' "$(ask B notify 0 "$other")"
	show 'is not seen' "$(ask A poll 0 300)"
	show 'until the port is unmasked' "$(ask A unmask 0 "$port") $(ask A poll 0 3000)"
	show 'there is no third' "$(ask A nonblock 0) $(word 1 "$(ask A pending 0)") $(ask A pending 0)"
	ask A unmask 0 "$port" >/dev/null
	show 'a port of somebody else is notified' "$(ask A notify 0 999)"
	show 'the peer unbinds' "$(ask B unbind 0 "$other")"
	show 'nothing is told' "$(ask A poll 0 300)"
	show 'a channel without a peer is notified' "$(ask A notify 0 "$port")"
	show 'ports without end' "$(ask A bind-many 0 "$(domid u2)" 5000)"
}

# What Linux's evtchn driver has for each open handle: the ring of ports whose interrupt has come.
case_event_ring() {
	local port other one two three i
	programs A u1 B u2
	{ ask A evtchn-open && ask B evtchn-open; } >/dev/null
	bound A B
	{ ask B pending 0 && ask B unmask 0 "$other"; } >/dev/null
	show 'an event comes' "$(ask B notify 0 "$other") $(ask A poll 0 3000)"
	show 'the next one, before it is read' "$(ask B notify 0 "$other")"
	show 'the first is read, and no other comes' "$(word 1 "$(ask A pending 0)") $(ask A poll 0 300)"
	show 'until the port is unmasked' "$(ask A unmask 0 "$port") $(ask A poll 0 3000)"
	show 'there is no third' "$(word 1 "$(ask A pending 0)") $(ask A unmask 0 "$port") $(ask A poll 0 300)"
	show 'five come' "$(ask B notify 0 "$other") $(ask A poll 0 3000)"
	for i in 2 3 4 5; do ask B notify 0 "$other" >/dev/null; done
	show 'they are two' "$(word 1 "$(ask A pending 0)") $(ask A unmask 0 "$port") $(ask A poll 0 3000)"
	show 'and not three' "$(word 1 "$(ask A pending 0)") $(ask A unmask 0 "$port") $(ask A poll 0 300)"
	show 'one comes' "$(ask B notify 0 "$other") $(ask A poll 0 3000)"
	show 'and is unmasked before it is read' "$(ask A unmask 0 "$port")"
	show 'so the next one is there beside it' "$(ask B notify 0 "$other") $(word 1 "$(ask A pending 0)") $(ask A poll 0 3000)"
	show 'and is the last' "$(word 1 "$(ask A pending 0)") $(ask A unmask 0 "$port") $(ask A poll 0 300)"
	show 'the port is unbound while it is in the ring' "$(ask B notify 0 "$other") $(ask A poll 0 3000) $(ask A unbind 0 "$port")"
	show 'it stays there' "$(ask A poll 0 300)"
	[ "$(ask A pending 0)" = "ok $port" ] && echo 'with its number'
	show 'it is unmasked all the same' "$(ask A unmask 0 "$port")"

	for i in one two three; do
		bound A B
		eval "$i=$port other_$i=$other"
		{ ask B pending 0 && ask B unmask 0 "$other"; } >/dev/null
	done
	for i in two three one; do eval "ask B notify 0 \$other_$i" >/dev/null; done
	show 'three ports are read in the order of their events' \
		"$(for i in 1 2 3; do ask A pending 0; done | sed "s/^ok $one\$/one/; s/^ok $two\$/two/; s/^ok $three\$/three/" | tr '\n' ' ')"

	ask B evtchn-open >/dev/null
	port=$(word 2 "$(ask A bind-unbound 0 "$(domid u2)")")
	show 'events are left in the ring by ports that have gone' "$(ask B bind-and-unbind 1 "$(domid u1)" "$port" 64) $(ask B poll 1 3000)"
	show 'one is read' "$(word 1 "$(ask B pending 1)")"
	show 'there is room for as many, and not for one more' "$(ask B bind-and-unbind 1 "$(domid u1)" "$port" 2) $(ask B poll 1 3000)"
	show 'nothing is read any longer' "$(ask B pending 1) $(ask B pending 1)"
	show 'the handle is closed' "$(ask B evtchn-close 1)"
	ask B evtchn-open >/dev/null
	show 'a handle with 65 ports' "$(ask B bind-many 2 "$(domid u1)" 65)"
	show 'has a larger ring' "$(ask B bind-and-unbind 2 "$(domid u1)" "$port" 127) $(word 1 "$(ask B pending 2)")"
	show 'of twice the size' "$(ask B bind-and-unbind 2 "$(domid u1)" "$port" 2) $(word 1 "$(ask B pending 2)")"
	show 'and no more' "$(ask B bind-and-unbind 2 "$(domid u1)" "$port" 2) $(ask B pending 2)"
}

case_a_killed_mapper() {
	programs A u1 B u2
	vchan_like A B
	kill_program B
	show 'the granter has an event' "$(ask A poll 0 5000)"
	show 'and the byte is' "$(ask A peek 0 23)"
}

case_a_killed_granter() {
	programs A u1 B u2
	vchan_like A B
	kill_program A
	show 'the mapper has an event' "$(ask B poll 0 5000)"
	show 'and the byte is' "$(ask B peek 0 22)"
	show 'what he writes' "$(ask B poke 0 100 7)"
	show 'stays there' "$(ask B peek 0 100)"
}

case_a_destroyed_granter() {
	local domid
	domid=$(domid u2)
	programs A u2 B u1
	vchan_like A B
	destroy u2
	show 'the mapper has an event' "$(ask B poll 0 1000)"
	show 'the byte is still' "$(ask B peek 0 22)"
	show 'he sends an event' "$(ask B notify 0 "$other")"
	show 'what he writes' "$(ask B poke 0 100 7) $(ask B peek 0 100)"
	show_verdict 'he maps it again' "$(ask B map "$domid" "$ref" 1 1)"
	show 'the domain is a zombie' "$(zombies)"
	end_program B
	show 'until it is unmapped' "$(no_zombies_soon && zombies)"
	recreate u2
}

case_a_destroyed_mapper() {
	programs A u1 B u2
	vchan_like A B
	destroy u2
	show 'the granter has an event' "$(ask A poll 0 1000)"
	show 'the byte is still' "$(ask A peek 0 23)"
	show 'he sends an event' "$(ask A notify 0 "$port")"
	show 'he takes the page back' "$(ask A unshare 0)"
	recreate u2
}

# What libxenctrl says of domains and ports, in domain 0 and in a guest.
case_control() {
	local first second port other
	first=$(domid u1)
	second=$(domid u2)
	programs A u1 B u2 C dom0
	vchan_like A B
	show 'domain 0 asks for the list' "$(ask C domains "$first" 1 | sed "s/ $first\$/ U1/")"
	show 'for one domain' "$(ask C domain-single "$first" | sed "s/ $first\$/ U1/")"
	show 'for one that is not there, nor any above' "$(ask C domain-single 32000)"
	show 'for a number that no domain has' "$(ask C domain-single 32752)"
	show 'for the list from there on' "$(ask C domains 32752 1)"
	show 'a domain that lives is neither dying nor paused' "$(ask C domain-state "$first" | cut -d' ' -f1,3,4)"
	show 'for a port' "$(ask C port-status "$second" "$other" | sed "s/ $first $port\$/ U1 PORT/")"
	show 'for a port of a domain that is not there' "$(ask C port-status 32000 1)"
	show 'for a port beyond all' "$(ask C port-status "$second" 100000)"
	show 'a guest asks for its port' "$(ask A port-status 32752 "$port")"
	show 'for the list' "$(ask A domains 0 10)"
	show 'for itself' "$(ask A domain-single "$first")"
	show 'the other end is unbound, while its unmap notification holds it' "$(ask B unbind 0 "$other")"
	show 'so the port is still connected' "$(ask C port-status "$first" "$port" | sed "s/ $second $other\$/ U2 PORT/")"
	end_program B
	show 'until the mapping ends, too' "$(ask C port-status "$first" "$port" | sed "s/ $second\$/ U2/")"
	show 'and the other one is closed' "$(ask C port-status "$second" "$other")"
	destroy u2
	show 'its domain is destroyed, and has gone' "$(ask C domains "$second" 1 | grep -c " $second\$")"
	recreate u2
}

# A domain whose pages others map.
case_control_zombie() {
	local second ref
	second=$(domid u2)
	programs A u2 C dom0
	ref=$(word 3 "$(ask A share 0 1 1)")
	show_verdict 'domain 0 maps a page' "$(ask C map "$second" "$ref" 1 1)"
	destroy u2
	show 'the domain that granted it is dying and paused' "$(ask C domain-state "$second" | sed "s/ $second / U2 /" | cut -d' ' -f1-4)"
	show 'its ports' "$(ask C port-status "$second" 1)"
	show 'the page is unmapped' "$(ask C unmap 0)"
	show 'and the domain has gone' "$(no_zombies_soon && ask C domains "$second" 1 | grep -c " $second\$")"
	recreate u2
}

case_store_permissions() {
	local u1 u2
	u1=$(domid u1)
	u2=$(domid u2)
	programs A u1 B u2
	show_verdict 'a guest reads its name' "$(ask A xs-read name)"
	show 'and writes it' "$(ask A xs-write name other)"
	show 'it reads the name of another' "$(ask A xs-read "/local/domain/$u2/name")"
	show 'it lists the domains' "$(ask A xs-list /local/domain)"
	show 'it writes to the data of another' "$(ask A xs-write "/local/domain/$u2/data/x" 1)"
	show 'it writes to its own' "$(ask A xs-write data/conformance 1)"
	show 'another reads that' "$(ask B xs-read "/local/domain/$u1/data/conformance")"
	show 'it lets the other read' "$(ask A xs-chmod data/conformance "n$u1,r$u2")"
	show 'now he reads it, though not what is above' "$(ask B xs-read "/local/domain/$u1/data/conformance") $(word 1 "$(ask B xs-list "/local/domain/$u1/data")")"
	show 'and writes it' "$(ask B xs-write "/local/domain/$u1/data/conformance" 2)"
	show 'a new node has the permissions of its parent' "$(ask A xs-write data/conformance/child 3) $(ask B xs-read "/local/domain/$u1/data/conformance/child")"
	show 'a child is made private' "$(ask A xs-chmod data/conformance/child "n$u1")"
	show 'the other no longer reads it' "$(ask B xs-read "/local/domain/$u1/data/conformance/child")"
	show 'but its parent' "$(ask B xs-read "/local/domain/$u1/data/conformance")"
	show 'what does not exist, below what one may not read' "$(ask B xs-read "/local/domain/$u1/data/nothing")"
	show 'what does not exist, of its own' "$(ask A xs-read data/nothing)"
	show 'what does not exist is removed' "$(ask A xs-rm data/nothing)"
	show 'the directory is removed' "$(ask A xs-rm data/conformance)"
	show 'and all of it has gone' "$(ask A xs-read data/conformance/child)"
}

# The next event with something in it; a domain that comes or goes beside the test makes others.
event() { ask "$1" xs-event "${2:-5000}"; }

case_store_watches() {
	local u1 u2 leaf
	u1=$(domid u1)
	u2=$(domid u2)
	leaf=/local/domain/$u1/data/conformance
	programs A u1 B u2
	show 'a watch is set' "$(ask A xs-watch data/conformance)"
	show 'it fires at once, by the path it was set with' "$(event A)"
	show 'and not again' "$(event A 300)"
	show 'the same watch once more' "$(ask A xs-watch data/conformance)"
	show 'on what one may not read' "$(ask B xs-watch "$leaf")"
	show 'it fires at once, too' "$(event B | sed "s|$leaf|LEAF|")"
	show 'a private node is made' "$(ask A xs-write data/conformance 1)"
	show 'its owner is told' "$(event A)"
	show 'who may not read it is not' "$(event B 500)"
	show 'he may' "$(ask A xs-chmod data/conformance "n$u1,r$u2")"
	show 'and is told' "$(event B | sed "s|$leaf|LEAF|")"
	show 'its value changes' "$(ask A xs-write data/conformance 2)"
	show 'he is told' "$(event B | sed "s|$leaf|LEAF|")"
	show 'a node below' "$(ask A xs-write data/conformance/below 3)"
	show 'he is told by its path' "$(event B | sed "s|$leaf|LEAF|")"
	show 'it is removed' "$(ask A xs-rm data/conformance)"
	show 'he is told that, too' "$(word 1 "$(event B)")"
}

# The next event on what this is about: in a real host others come and go, too.
found() { ask B xs-event-on conformance "${1:-5000}"; }

# What the discovery of daemons stands on.
case_store_discovery() {
	local u1 leaf
	u1=$(domid u1)
	leaf=/local/domain/$u1/data/conformance/leaf
	programs A u1 B u2
	show 'a guest watches all domains' "$(ask B xs-watch /local/domain)"
	show 'it fires' "$(event B)"
	show 'in another a private directory is made' "$(ask A xs-mkdir data/conformance)"
	show 'of that he is not told' "$(found 500)"
	show 'and a leaf' "$(ask A xs-write data/conformance/leaf 1)"
	show 'that everybody may read' "$(ask A xs-chmod data/conformance/leaf "r$u1")"
	show 'he is told' "$(found | sed "s|$leaf|LEAF|")"
	show 'he reads it' "$(ask B xs-read "$leaf")"
	show 'it is removed' "$(ask A xs-rm data/conformance/leaf)"
	show 'he is told' "$(found | sed "s|$leaf|LEAF|")"
	ask A xs-rm data/conformance >/dev/null
}

# What daemon/xen/store.h says that it builds on.
case_store_transactions() {
	local u1 leaf
	u1=$(domid u1)
	leaf=/local/domain/$u1/data/conformance/leaf
	programs A u1 B u1 C u2
	ask B xs-write data/elsewhere 0 >/dev/null
	show 'a transaction finds no directory' "$(ask A xs-begin) $(ask A xs-read data/conformance)"
	show 'makes it, a private one' "$(ask A xs-mkdir data/conformance) $(ask A xs-chmod data/conformance "n$u1")"
	show 'writes a leaf that everybody may read' "$(ask A xs-write data/conformance/leaf 1) $(ask A xs-chmod data/conformance/leaf "r$u1")"
	show 'nobody sees it yet' "$(ask B xs-read data/conformance/leaf)"
	show 'another one writes elsewhere' "$(ask B xs-write data/elsewhere 1)"
	show 'it is committed' "$(ask A xs-commit)"
	show 'and seen with its permissions' "$(ask C xs-read "$leaf")"
	show 'the next one finds the directory' "$(ask A xs-begin) $(ask A xs-read data/conformance)"
	show 'another one removes it' "$(ask B xs-rm data/conformance)"
	show 'a leaf in it' "$(ask A xs-write data/conformance/leaf 2) $(ask A xs-chmod data/conformance/leaf "r$u1")"
	show 'is not committed' "$(ask A xs-commit)"
	show 'and nothing is there' "$(ask B xs-read data/conformance)"
	show 'the next one finds none, and makes it' "$(ask A xs-begin) $(ask A xs-read data/conformance) $(ask A xs-mkdir data/conformance)"
	show 'another one makes it, too, with something in it' "$(ask B xs-write data/conformance/other 1)"
	show 'a leaf in it, once more' "$(ask A xs-write data/conformance/leaf 3)"
	show 'is not committed either' "$(ask A xs-commit)"
	show 'and what the other one made is there' "$(ask B xs-read data/conformance/other) $(ask B xs-read data/conformance/leaf)"
	show 'two write a leaf that neither has read' "$(ask A xs-begin) $(ask A xs-write data/conformance/leaf 4) $(ask B xs-write data/conformance/leaf 5)"
	show 'the transaction may be committed, or has to be made again' "$(ask A xs-commit | sed 's/^ok 0$\|^error 11$/one of these/')"
	ask B xs-rm data/conformance >/dev/null
	ask B xs-rm data/elsewhere >/dev/null
}

case_store_transaction_reads() {
	programs A u1 B u1
	{ ask A xs-mkdir data/conformance && ask A xs-write data/elsewhere 1; } >/dev/null
	show 'in a transaction it is asked for what is not there' "$(ask A xs-begin) $(ask A xs-read data/conformance/a)"
	show 'another makes that' "$(ask B xs-write data/conformance/a 1)"
	show 'the transaction writes elsewhere, and is committed' "$(ask A xs-write data/elsewhere 2) $(ask A xs-commit)"
	show 'in another it is listed' "$(ask A xs-begin) $(ask A xs-list data/conformance)"
	show 'another adds to it' "$(ask B xs-write data/conformance/b 1)"
	show 'the transaction writes elsewhere, and is committed' "$(ask A xs-write data/elsewhere 3) $(ask A xs-commit)"
	show 'in another it is read' "$(ask A xs-begin) $(ask A xs-read data/conformance/a)"
	show 'another writes the same value' "$(ask B xs-write data/conformance/a 1)"
	show 'the transaction writes elsewhere, and is committed' "$(ask A xs-write data/elsewhere 4) $(ask A xs-commit)"
	show 'in another it is only read' "$(ask A xs-begin) $(ask A xs-read data/conformance/a)"
	show 'another writes it' "$(ask B xs-write data/conformance/a 2)"
	show 'the transaction is committed' "$(ask A xs-commit)"
	show 'what was written elsewhere' "$(ask A xs-read data/elsewhere)"
	{ ask A xs-rm data/conformance && ask A xs-rm data/elsewhere; } >/dev/null
}

case_store_corners() {
	local u1 u2 leaf
	u1=$(domid u1)
	u2=$(domid u2)
	leaf=/local/domain/$u1/data/conformance
	programs A u1 B u2
	ask A xs-write data/conformance 1 >/dev/null
	show 'the first of two entries for one domain allows nothing' "$(ask A xs-chmod data/conformance "n$u1,n$u2,r$u2") $(word 1 "$(ask B xs-read "$leaf")")"
	show 'the first one allows, the second not' "$(ask A xs-chmod data/conformance "n$u1,r$u2,n$u2") $(word 1 "$(ask B xs-read "$leaf")")"
	show 'six entries' "$(ask A xs-chmod data/conformance "n$u1,r1,r2,r3,r4,r5")"
	show 'six entries for what is not there' "$(ask A xs-chmod data/nothing "n$u1,r1,r2,r3,r4,r5")"
	show 'an entry for a domain that does not exist' "$(ask A xs-chmod data/conformance "n$u1,r9999")"
	show 'it owns the node' "$(ask A xs-chmod data/conformance n9999)"
	show 'a guest makes the root' "$(ask A xs-mkdir /)"
	show 'and removes it' "$(ask A xs-rm /)"
	show 'two watches on one node' "$(ask A xs-watch data/conformance) $(event A) $(ask A xs-watch "$leaf") $(event A | sed "s|$leaf|LEAF|")"
	show 'it is written' "$(ask A xs-write data/conformance 2)"
	show 'the events' "$(event A | sed "s|$leaf|LEAF|"), $(event A | sed "s|$leaf|LEAF|")"
	ask A xs-rm data/conformance >/dev/null
}

case_store_limits() {
	program A u2
	show 'a value of 2000 bytes' "$(ask A xs-size data/conformance 2000)"
	show 'of 2049' "$(ask A xs-size data/conformance 2049)"
	show 'of 5000' "$(ask A xs-size data/conformance 5000)"
	show 'five entries of permissions' "$(ask A xs-chmod data/conformance "n$(domid u2),r1,r3,r4,r5")"
	end_program A
	program A u2
	show 'transactions without end' "$(ask A xs-transactions 100)"
	end_program A
	program A u2
	show 'nodes in one directory without end' "$(ask A xs-fill-directory data/conformance 3000)"
	ask A xs-rm data/conformance >/dev/null
	show 'nodes without end' "$(ask A xs-fill data/conformance 3000)"
	show 'and still none' "$(ask A xs-write data/one-more 1)"
	show 'they are removed' "$(ask A xs-rm data/conformance)"
	show 'then there is room' "$(ask A xs-write data/one-more 1)"
	ask A xs-rm data/one-more >/dev/null
	end_program A
	# By the kernel's device, a refused watch costs a program its connection to XenStore: nothing can be asked after it.
	program A u2
	show 'watches without end' "$(ask A xs-watches data/w 1000)"
}

# jumped BEFORE AFTER: whether the clocks that go on while a domain is saved did, by two answers of `clocks`
jumped() {
	[ $(($(word 2 "$2") - $(word 2 "$1"))) -ge 100 ] && [ $(($(word 3 "$2") - $(word 3 "$1"))) -ge 100 ] && echo yes || echo no
}

# A page that the second guest grants to domain 0, and domain 0's watch on what the toolstack tells that guest.
granted_to_domain_0() {
	local ref
	programs A u2 C dom0
	show 'domain 0 watches what the toolstack tells a guest' "$(ask C xs-watch "/local/domain/$1/control/shutdown") $(event C | sed "s|/$1/|/U2/|")"
	show 'the guest watches its domid' "$(ask A xs-watch domid) $(event A)"
	ref=$(word 3 "$(ask A share 0 1 1)")
	show 'it grants a page, which domain 0 maps, and both write' "$(ask C map "$1" "$ref" 1 1) $(ask A poke 0 100 42) $(ask C poke 0 101 43)"
}

case_a_checkpoint() {
	local old before port other
	old=$(domid u2)
	granted_to_domain_0 "$old"
	{ ask A evtchn-open && ask C evtchn-open; } >/dev/null
	bound A C
	before=$(ask A clocks)
	checkpoint u2
	show 'domain 0 is told' "$(event C | sed "s|/$old/|/U2/|")"
	[ "$(ask A xs-read domid)" = "ok $old" ] && echo 'the domid is the same'
	show 'the guest is not told' "$(event A 1000)"
	show 'the clocks have jumped' "$(jumped "$before" "$(ask A clocks)")"
	show 'what they have written is there' "$(ask A peek 0 100) $(ask A peek 0 101) $(ask C peek 0 100) $(ask C peek 0 101)"
	show 'they still share the page' "$(ask A poke 0 102 44) $(ask C poke 0 103 45) $(ask A peek 0 103) $(ask C peek 0 102)"
	show 'and the event channel' "$(ask C notify 0 "$other") $(ask A poll 0 3000)"
}

case_a_restore() {
	local old before ref
	old=$(domid u2)
	granted_to_domain_0 "$old"
	ask A xs-write data/conformance 1 >/dev/null
	# With no port, whose release would be a kernel BUG.
	ref=$(word 3 "$(ask A share-notify 0 22 4294967295)")
	show 'and a page of which a byte is to be cleared' "$(ask C map "$old" "$ref" 1 1) $(ask A poke 1 22 1)"
	program D u2
	show 'a transaction is open' "$(ask D xs-begin) $(ask D xs-write data/conformance 2)"
	before=$(ask A clocks)
	save_and_restore u2
	show 'domain 0 is told' "$(event C | sed "s|/$old/|/U2/|")"
	[ "$(ask A xs-read domid)" = "ok $(domid u2)" ] && [ "$(domid u2)" != "$old" ] && echo 'the domid is another'
	show 'the guest is told' "$(event A)"
	show 'in the transaction it is asked for what is there' "$(ask D xs-read domid)"
	show 'and it is committed' "$(ask D xs-commit)"
	end_program D
	show 'its data has gone' "$(ask A xs-read data/conformance)"
	show 'the clocks have jumped' "$(jumped "$before" "$(ask A clocks)")"
	show 'what they have written is there' "$(ask A peek 0 100) $(ask C peek 0 100) $(ask C peek 0 101)"
	show 'they do not share the page any more' "$(ask A poke 0 102 44) $(ask C poke 0 103 45) $(ask A peek 0 103) $(ask C peek 0 102)"
	show 'a byte is not cleared in what others have mapped' "$(ask A unshare 1) $(ask C peek 1 22) $(ask C unmap 1)"
	show 'the old domain waits' "$(zombies)"
	show 'until its page is unmapped' "$(ask C unmap 0)"
	no_zombies_soon
	show 'then it has gone' "$(zombies)"
	show 'the guest takes the page back' "$(ask A unshare 0)"
	ref=$(word 3 "$(ask A share 0 1 1)")
	show 'another page is shared' "$(ask C map "$(domid u2)" "$ref" 1 1) $(ask A poke 2 100 46) $(ask C peek 2 100)"
}

conformance_cases='grants grant_limit event_channels event_ring a_killed_mapper a_killed_granter a_destroyed_granter a_destroyed_mapper control control_zombie store_permissions store_watches store_discovery store_transactions store_transaction_reads store_corners store_limits a_checkpoint a_restore a_granter_forks mappings_of_a_pv_guest mappings_of_a_pvh_guest references event_corners a_dead_peers_port raw_store store_orders store_sizes found_functions grant_copy a_paused_watcher home a_crash a_power_off a_destroyed_home suspension foreign_memory virqs kernel_ports resources toolstack'

. "${conformance_dir:-/rig/conformance}/corners.sh"
