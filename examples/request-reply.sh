#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# A service that reverses texts, and its client: request-reply.c in the shell.
#
#   request-reply.sh serve ENDPOINT
#   request-reply.sh call ADDRESS TEXT
case "$1" in
serve)
	exec xenmsg serve "$2" -- sh -c 'echo "a call from domain $XENMSG_SENDER_DOMID" >&2; rev'
	;;
call)
	exec xenmsg call --timeout 5 "$2" "$3"
	;;
*)
	echo "usage: $0 serve ENDPOINT | call ADDRESS TEXT" >&2
	exit 2
	;;
esac
