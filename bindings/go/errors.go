// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"
)

// Fate is how much is known of what has failed.
type Fate int

const (
	// Unknown: it may have been done, and nobody can know.
	Unknown Fate = iota
	// Done: a handler has answered the call; only its author knows what the error means.
	Done
	// NotDone: it wasn't done and never will be: it may be begun again.
	NotDone
)

// String returns the fate in words.
func (f Fate) String() string {
	switch f {
	case Done:
		return "the program there has answered"
	case NotDone:
		return "certainly not done"
	}
	return "perhaps done"
}

// Unanswered is the Code of a call that a program has taken and dropped.
const Unanswered = 125

// An Error is why something has failed. errors.Is finds its Errno, and what its context says.
type Error struct {
	Op      string        // "send", "call", "bind" and so on
	Address string        // or endpoint; "" if it isn't about one
	Errno   syscall.Errno // one of those of the table in the package's documentation
	Fate    Fate
	// Code is, with EREMOTEIO, which error it is to the program there, 1 to 65535, and Data what it has to
	// say of it. ExitStatus is that of the command that was run for the call, 0 if there was none.
	Code       int
	Data       []byte
	ExitStatus int
	Reason     string // the daemon's own words for why, "" if it has said nothing
	context    error  // what the context's Err says
	isRefusal  bool   // of a call that another program may get [2.6]
}

// The words of wire/outcomes.h: tests/integration/test_go.py compares them.
var errorTexts = map[syscall.Errno]string{
	syscall.ENOENT:       "no such endpoint there; 'xenmsg endpoints' lists what can be reached",
	syscall.EPROTOTYPE:   "that endpoint is there, but not for this: each takes messages, calls or streams, not all of them",
	syscall.EACCES:       "denied by policy; 'xenmsg policy check' in the receiving domain says which rule decides, or which one is missing",
	syscall.ENODATA:      "the policy there can't decide yet: a rule needs the name of this domain, which isn't known there; names come from xenmsgd in domain 0",
	syscall.EHOSTDOWN:    "no such domain, or no xenmsgd runs in it; 'xenmsg peers' lists who is there",
	syscall.EHOSTUNREACH: "a link to that domain can't be made; 'xenmsg status' and the log of xenmsgd say why",
	syscall.EOPNOTSUPP:   "the program there can't tell other hosts from its own, since it listens without XENMSG_FROM_HOSTS",
	syscall.ENOBUFS:      "over a limit; 'xenmsg status' shows the limits and who uses them",
	syscall.EMSGSIZE:     "the message is larger than the receiving side accepts; max-message in its xenmsgd.conf says how large",
	syscall.ETIMEDOUT:    "timed out; it was certainly not done",
	syscall.ECANCELED:    "given up; it was not delivered",
	syscall.ENOTCONN:     "the local xenmsgd has gone away; start it again",
	syscall.ECONNRESET:   "the receiver or a daemon died; whether it was delivered can't be known",
	syscall.EREMOTEIO:    "the program there has answered with an error of its own",
	syscall.EPROTO:       "the local xenmsgd breaks the protocol; are both of the same version?",
	syscall.EINVAL:       "an address, a name, an option or a size isn't valid",
	syscall.EEXIST:       "that endpoint is bound, or subscribed to, already",
	syscall.ECONNREFUSED: "no xenmsgd there",
	syscall.EAGAIN:       "no room for it now; try again, or wait for room",
}

// Error returns what has failed and why, in words for people.
func (e *Error) Error() string {
	text := "xenmsg: " + e.Op
	if e.Address != "" {
		text += " " + e.Address
	}
	switch {
	case e.Errno == syscall.EREMOTEIO && len(e.Data) > 0:
		return fmt.Sprintf("%s: the program there says: error %d: %q", text, e.Code, e.Data)
	case e.Errno == syscall.EREMOTEIO:
		return fmt.Sprintf("%s: the program there says: error %d", text, e.Code)
	case e.Reason != "":
		return text + ": " + e.Reason
	case e.context == context.Canceled:
		return text + ": given up; " + e.Fate.String()
	case e.Errno == syscall.ETIMEDOUT:
		return text + ": timed out; " + e.Fate.String()
	}
	if words := errorTexts[e.Errno]; words != "" {
		return text + ": " + words
	}
	return text + ": " + e.Errno.Error()
}

// Unwrap returns the Errno, for errors.Is(err, syscall.ENOENT).
func (e *Error) Unwrap() error { return e.Errno }

// Is tells whether the context that has ended is the target: context.DeadlineExceeded or context.Canceled. What
// was closed here is net.ErrClosed, too.
func (e *Error) Is(target error) bool {
	return e.context != nil && e.context == target || e.Errno == syscall.ECANCELED && target == net.ErrClosed
}

// Timeout tells whether a time was up, as for net.Error.
func (e *Error) Timeout() bool {
	return e.context == context.DeadlineExceeded || e.context == nil && e.Errno == syscall.ETIMEDOUT
}

// Temporary tells whether it may go well later, as for net.Error: a lack of something.
func (e *Error) Temporary() bool {
	return e.Timeout() || e.Errno == syscall.ENOBUFS || e.Errno.Temporary()
}

// Answer is an error that a handler returns as its answer to a call, or any other one that has an Errno.
func Answer(code int, data []byte) error {
	return &Error{Op: "answer", Errno: syscall.EREMOTEIO, Fate: Done, Code: code, Data: data}
}

// ended returns the error of what a context has ended.
func ended(ctx context.Context, fate Fate) *Error {
	said := &Error{Errno: syscall.ETIMEDOUT, Fate: fate, context: ctx.Err()}
	if said.context == nil { // it will be in a moment
		said.context = context.DeadlineExceeded
	}
	return said
}

// isOver tells whether a context has ended, or its time is up, as package net finds a little earlier.
func isOver(ctx context.Context) bool {
	deadline, hasDeadline := ctx.Deadline()
	return ctx.Err() != nil || hasDeadline && !time.Now().Before(deadline)
}

// failed returns the error of an errno of this package, which says what is known.
func failed(errno syscall.Errno) *Error {
	if errno == syscall.ECONNRESET {
		return &Error{Errno: errno, Fate: Unknown}
	}
	return &Error{Errno: errno, Fate: NotDone}
}

// about returns a copy of an error that says what it is about.
func (e *Error) about(op, address string) *Error {
	said := *e
	said.Op, said.Address = op, address
	return &said
}

// asError returns an error that is nil where there is none.
func asError(err *Error) error {
	if err == nil {
		return nil
	}
	return err
}

func invalid(op, address string) error {
	return failed(syscall.EINVAL).about(op, address)
}
