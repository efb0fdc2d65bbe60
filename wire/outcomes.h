/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef XENMSG_WIRE_OUTCOMES_H
#define XENMSG_WIRE_OUTCOMES_H

/*
 * Each errno of the library: how a command ends with it (EXIT_... of cli/cli.h), and what it means, in words
 * for people. libclient/helpers.c, cli/errors.c and wire/libc.h take from here what they need;
 * tests/integration/test_manual.py and test_go.py compare it with what can't include it.
 */

/* clang-format off */
#define OUTCOMES(OUTCOME) \
	OUTCOME(ENOENT, NO_ENDPOINT, "no such endpoint there; 'xenmsg endpoints' lists what can be reached") \
	OUTCOME(EACCES, DENIED, \
		"denied by policy; 'xenmsg policy check' in the receiving domain says which rule " \
		"decides, or which one is missing") \
	OUTCOME(EINVAL, OTHER, "an address, a name, an option or a size isn't valid") \
	OUTCOME(ENODATA, UNREACHABLE, \
		"the policy there can't decide yet: a rule needs the name of this domain, which isn't " \
		"known there; names come from xenmsgd in domain 0") \
	OUTCOME(EHOSTDOWN, UNREACHABLE, \
		"no such domain, or no xenmsgd runs in it; 'xenmsg peers' lists who is there") \
	OUTCOME(EHOSTUNREACH, UNREACHABLE, \
		"a link to that domain can't be made; 'xenmsg status' and the log of xenmsgd say why") \
	OUTCOME(EOPNOTSUPP, OTHER, \
		"the program there can't tell other hosts from its own, since it listens without " \
		"XENMSG_FROM_HOSTS") \
	OUTCOME(ETIMEDOUT, TIMED_OUT, "timed out; it was certainly not done") \
	OUTCOME(ENOBUFS, LIMIT, "over a limit; 'xenmsg status' shows the limits and who uses them") \
	OUTCOME(EMSGSIZE, LIMIT, \
		"the message is larger than the receiving side accepts; max-message in its xenmsgd.conf " \
		"says how large") \
	OUTCOME(EAGAIN, LIMIT, "no room for it now; try again, or wait for room") \
	OUTCOME(ECONNRESET, LOST, "the receiver or a daemon died; whether it was delivered can't be known") \
	OUTCOME(ENOTCONN, NO_DAEMON, "the local xenmsgd has gone away; start it again") \
	OUTCOME(ECONNREFUSED, NO_DAEMON, "no xenmsgd there") \
	OUTCOME(ECANCELED, OTHER, "given up; it was not delivered") \
	OUTCOME(EIO, OTHER, \
		"the receiver has given it back, since it couldn't do what it does with it; it was not " \
		"delivered") \
	OUTCOME(EREMOTEIO, OTHER, "the program there has answered with an error of its own") \
	OUTCOME(EPROTOTYPE, OTHER, \
		"that endpoint is there, but not for this: each takes messages, calls or streams, not " \
		"all of them") \
	OUTCOME(EEXIST, OTHER, "that endpoint is bound, or subscribed to, already") \
	OUTCOME(EPROTO, OTHER, "the local xenmsgd breaks the protocol; are both of the same version?") \
	OUTCOME(ECHILD, OTHER, "the connection was opened before fork(), by another process") \
	OUTCOME(EMFILE, OTHER, LACKS_DESCRIPTORS) \
	OUTCOME(ENOMEM, OTHER, LACKS_MEMORY)

/* Likewise where a connection can't be opened. */
#define OPENINGS(OUTCOME) \
	OUTCOME(ENOENT, NO_DAEMON, RUNS_NOT_THERE) \
	OUTCOME(ECONNREFUSED, NO_DAEMON, RUNS_NOT_THERE) \
	OUTCOME(EACCES, DENIED, "permission denied; use it as root or as a member of the socket's group") \
	OUTCOME(ENAMETOOLONG, USAGE, "the path of the socket is too long: at most 107 bytes") \
	OUTCOME(ETIMEDOUT, TIMED_OUT, "xenmsgd doesn't answer; 'xenmsg doctor' says what mends it") \
	OUTCOME(EMFILE, OTHER, LACKS_DESCRIPTORS) \
	OUTCOME(ENOSYS, OTHER, LACKS_A_CALL) \
	OUTCOME(EPERM, OTHER, LACKS_A_CALL) \
	OUTCOME(EPROTONOSUPPORT, OTHER, \
		"xenmsgd speaks another version of the protocol; install the same version of both") \
	OUTCOME(EPROTO, OTHER, "that is no xenmsgd") \
	OUTCOME(EPROTOTYPE, OTHER, "that is no xenmsgd") \
	OUTCOME(ENOMEM, OTHER, LACKS_MEMORY) \
	OUTCOME(ENOBUFS, LIMIT, \
		"over a limit: xenmsgd takes no more programs of this user; its log says which limit") \
	OUTCOME(EBUSY, LIMIT, \
		"xenmsgd lacks memory or descriptors for another program; its log says which; try again")

#define LACKS_MEMORY "this program has no memory left for it"
#define LACKS_DESCRIPTORS "Too many open files: this program's limit of descriptors (ulimit -n) is too low"
#define LACKS_A_CALL \
	"a system call that this takes is missing or forbidden here, by an old kernel, an emulator or " \
	"seccomp; strace -f shows which"
#define RUNS_NOT_THERE "no xenmsgd is running there; start it, or name another socket"
/* clang-format on */

#endif
