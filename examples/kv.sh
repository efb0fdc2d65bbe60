#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# kv.c in the shell. The values are files, one for each key, in a directory for each domain that calls.
# It stays when the domain has gone, whose domid may be another one's later: kv.c forgets it, this leaves that to you.
#
#   kv.sh serve ENDPOINT DIRECTORY
#   kv.sh ADDRESS get|set|delete|list [KEY [VALUE]]
fail() {
	echo "kv.sh: $*" >&2
	exit 1
}

# Handles one call: the request is on standard input, and the output is the reply.
answer() {
	request=$(cat && printf x)
	request=${request%x}
	verb=${request%% *}
	rest=${request#"$verb"}
	rest=${rest# }
	key=${rest%% *}
	value=${rest#"$key"}
	value=${value# }
	cd "$1" && mkdir -p "$XENMSG_SENDER_DOMID" && cd "$XENMSG_SENDER_DOMID" || exit 1
	if [ "$verb" = list ]; then
		exec ls
	fi
	case "$key" in
	"" | .* | *[!A-Za-z0-9._-]*) fail "domain $XENMSG_SENDER_DOMID: not a key: '$key'" ;;
	esac
	case "$verb" in
	get) exec cat -- "$key" ;;
	set) printf %s "$value" >".$$" && mv -- ".$$" "$key" ;;
	delete) exec rm -- "$key" ;;
	*) fail "domain $XENMSG_SENDER_DOMID: not a request: '$verb'" ;;
	esac
}

[ $# -ge 2 ] || fail "usage: $0 serve ENDPOINT DIRECTORY | ADDRESS get|set|delete|list [KEY [VALUE]]"
case "$1" in
serve) exec xenmsg serve "$2" -- sh "$0" --answer "$3" ;;
--answer) answer "$2" ;;
*)
	address=$1
	shift
	xenmsg call --timeout 5 "$address" "$*" || exit
	[ "$1" != get ] || echo
	;;
esac
