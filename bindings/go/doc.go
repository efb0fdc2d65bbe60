// SPDX-License-Identifier: LGPL-2.1-or-later

// Package xenmsg sends messages between programs in different Xen domains, calls programs there, and opens
// byte streams to them. It is pure Go: it speaks the protocol of xenmsgd, the daemon of its own domain, and
// needs no library in C.
//
// A service, and who calls it:
//
//	conn, err := xenmsg.Dial(ctx)
//	err = conn.Serve(ctx, "upper", func(ctx context.Context, m *xenmsg.Message) ([]byte, error) {
//		return bytes.ToUpper(m.Data), nil
//	})
//
//	reply, err := conn.Call(ctx, "2:upper", []byte("hello"))
//
// # Addresses
//
// An address is DOMAIN:ENDPOINT. DOMAIN is a number, a name or "self": "5:inbox", "work:print", "self:log".
// HOST/ before it means a domain of another host.
//
// # Outcomes
//
// Each message and each call ends in exactly one outcome: nil, or one *[Error]. Its Fate says what is known:
// [NotDone], the usual one, means that it wasn't done and never will be, so it may be sent again; [Unknown]
// that nobody can know, as when a daemon was killed; [Done], of a call, that the server has answered with an
// error of its own, whose number is in Code. [errors.Is] compares an error with those of package syscall:
//
//	ENOENT        no such endpoint there
//	EPROTOTYPE    the endpoint isn't for this: messages, calls or streams
//	EACCES        a policy denies it
//	ENODATA       a rule there names a domain whose name isn't known there now
//	EHOSTDOWN     no such domain, or no daemon in it
//	EHOSTUNREACH  nothing leads to that domain
//	EOPNOTSUPP    a stream from another host, and the program there takes none
//	ENOBUFS       over a quota
//	EMSGSIZE      larger than the receiving side accepts
//	ETIMEDOUT     not taken in time; also what the context's Err says
//	ECANCELED     the connection was closed, or the program there refused what was sent before
//	ENOTCONN      the daemon here ended before the message had left the program
//	ECONNRESET    the receiver or a daemon died: the outcome is unknown
//	EREMOTEIO     the program there refused the message, or answered with an error
//
// # Contexts
//
// A context that ends withdraws what was begun with it: the function settles with the other end whether it
// was taken, which may take 3 s, and then says so. The deadline of a call's context is told to the server,
// whose handler has it in its own context, which also ends when the caller gives up or dies.
//
// # Connections
//
// A [Conn] may be used by many goroutines at a time. Messages of one connection to one address arrive in the
// order in which they were begun, as long as each ends in nil. A receiver that doesn't take its messages
// holds up only those who send to it: nothing is queued here without a bound, since each goroutine that sends
// waits for its own outcome, and the daemon bounds what waits for this program.
//
// When the daemon ends, all that is under way ends with what is known of it. With [Dialer.Reconnect] the
// connection then waits for the next daemon, and binds, subscribes and watches there again.
package xenmsg
