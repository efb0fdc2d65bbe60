// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"time"
)

// An Option of Send, Call and Publish.
type Option func(*sendOptions)

type sendOptions struct {
	properties
	wait, atOnce bool
}

// Trace says where the message belongs in a trace: 1 to 255 printable characters of ASCII, by custom a
// traceparent. Its receiver finds it in Message.Trace.
func Trace(trace string) Option { return func(o *sendOptions) { o.trace = trace } }

// Key says, to a topic, whose value the message is: 1 to 255 printable characters of ASCII.
func Key(key string) Option { return func(o *sendOptions) { o.key = key } }

// Wait lets a message wait, until its context ends, for a receiver that isn't there: it is sent again after
// pauses, of a second in the end, as long as the outcome would be ENOENT or EHOSTDOWN.
func Wait() Option { return func(o *sendOptions) { o.wait = true } }

// AtOnce lets Send and Publish hand a message to the daemon at once, as a whole, or fail with EAGAIN: nil then says
// nothing of its outcome. It has at most 65,520 bytes, with what Trace and Key say.
func AtOnce() Option { return func(o *sendOptions) { o.atOnce = true } }

// cutAddress cuts DOMAIN:ENDPOINT.
func cutAddress(address string) (domain, endpoint string, ok bool) {
	domain, endpoint, ok = strings.Cut(address, ":")
	return domain, endpoint, ok && domain != "" && endpoint != "" && len(address) < 1024 && !strings.ContainsRune(address, 0)
}

// Send sends a message and returns when it was delivered, or why it never will be. It keeps nothing of data.
func (c *Conn) Send(ctx context.Context, address string, data []byte, options ...Option) error {
	_, err := c.deliver(ctx, "send", outKey{address, kindMessage}, typeMessage, data, options)
	return err
}

// Call sends a request to a program and returns its reply. An error with the fate Done is the program's own.
func (c *Conn) Call(ctx context.Context, address string, data []byte, options ...Option) (*Message, error) {
	return c.deliver(ctx, "call", outKey{address, kindCall}, typeRequest, data, options)
}

// Publish sends a message to all subscribers of a topic that this connection has bound. It waits for none of
// them: it returns when the daemon has it.
func (c *Conn) Publish(ctx context.Context, topic string, data []byte, options ...Option) error {
	_, err := c.deliver(ctx, "publish", outKey{"self:" + topic, kindMessage}, typeMessage, data, options)
	return err
}

// Query asks the daemon a question, as "status" or "endpoints DOMAIN", and returns JSON. doc/protocol.md has
// the questions.
func (c *Conn) Query(ctx context.Context, question string) ([]byte, error) {
	for _, word := range []string{"status", "trace"} { // of another domain's daemon
		if of := word + " of "; strings.HasPrefix(question, of) {
			domain, what, _ := strings.Cut(question[len(of):], " ")
			return c.ask(ctx, "query", domain, strings.TrimSpace(word+" "+what))
		}
	}
	return c.ask(ctx, "query", "self", question)
}

const questionMax = 512 // a longer one may end the channel, and all watches with it [3]

// ask asks the daemon of a domain.
func (c *Conn) ask(ctx context.Context, op, domain, question string) ([]byte, error) {
	if len(question) > questionMax {
		return nil, invalid(op, question)
	}
	reply, err := c.Call(ctx, domain+":xenmsg", []byte(question))
	var answered *Error
	if errors.As(err, &answered) && answered.Errno == syscall.EREMOTEIO {
		return nil, answered.ofDaemon().about(op, question)
	}
	if err != nil {
		return nil, err
	}
	return reply.Data, nil
}

// ofDaemon is what a call to the daemon has ended with: its errors are those of this package, and definite.
func (e *Error) ofDaemon() *Error {
	if e.Errno != syscall.EREMOTEIO {
		return e
	}
	return &Error{Errno: errnoOf(uint32(e.Code)), Fate: NotDone, Reason: string(e.Data)}
}

func (c *Conn) deliver(ctx context.Context, op string, key outKey, kind uint8, data []byte, options []Option) (*Message, error) {
	var o sendOptions
	for _, option := range options {
		option(&o)
	}
	_, _, valid := cutAddress(key.address)
	if !valid || o.atOnce && (kind != typeMessage || o.wait) || o.trace != "" && !isPrintable([]byte(o.trace)) || o.key != "" && !isPrintable([]byte(o.key)) {
		return nil, invalid(op, key.address)
	}
	if o.atOnce {
		if err := c.handOver(ctx, key, data, &o); err != nil {
			return nil, err.about(op, key.address)
		}
		return nil, nil
	}
	pause := 20 * time.Millisecond
	for refusals := 0; ; {
		reply, err := c.deliverOnce(ctx, key, kind, data, &o)
		if err == nil {
			return reply, nil
		}
		switch {
		case err.isRefusal && refusals < 8: // another program may have it by now [2.6]
			refusals++
			continue
		case err.Errno == syscall.ENOTCONN && err.Fate == NotDone && c.outlives():
			continue
		case o.wait && (err.Errno == syscall.ENOENT || err.Errno == syscall.EHOSTDOWN):
			if sleep(ctx, &pause, time.Second) {
				continue
			}
			err = ended(ctx, NotDone)
		}
		return nil, err.about(op, key.address)
	}
}

func (c *Conn) outlives() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dialer.Reconnect && !c.closed
}

// deliverOnce returns the outcome of one message or call; the caller waits, so its data need no copy.
func (c *Conn) deliverOnce(ctx context.Context, key outKey, kind uint8, data []byte, o *sendOptions) (*Message, *Error) {
	if ctx.Err() != nil {
		return nil, ended(ctx, NotDone)
	}
	if deadline, ok := ctx.Deadline(); ok && kind == typeRequest {
		o.deadline, o.hasDeadline = time.Until(deadline), true
		if o.deadline < 0 {
			return nil, ended(ctx, NotDone)
		}
	}
	var block []byte
	if o.hasDeadline || o.trace != "" || o.key != "" {
		block = o.encode()
	}
	c.mu.Lock()
	var ch *channel
	err := c.await(ctx)
	if err == nil {
		ch, err = c.channelTo(key)
	}
	if err == nil && uint64(len(data)) > ch.maxMessage {
		err = failed(syscall.EMSGSIZE)
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	m := newOutgoing(kind, block, data)
	if kind == typeRequest {
		ch.number32(m)
	}
	ch.push(m)
	c.flush()
	c.mu.Unlock()
	select {
	case <-m.done:
	case <-ctx.Done():
		c.mu.Lock()
		m.cancel(ended(ctx, NotDone))
		c.mu.Unlock()
		<-m.done
	}
	reply, err := m.reply, m.err
	m.free()
	return reply, err
}

// handOver gives a message to the daemon now, or not at all. Nobody waits for its outcome.
func (c *Conn) handOver(ctx context.Context, key outKey, data []byte, o *sendOptions) *Error {
	if ctx.Err() != nil {
		return ended(ctx, NotDone)
	}
	m := newOutgoing(typeMessage, o.encode(), data)
	m.isAlone = true
	c.mu.Lock()
	defer c.mu.Unlock()
	full := failed(syscall.EAGAIN)
	if err := c.gone(); err != nil {
		if c.dialer.Reconnect && !c.closed {
			return full
		}
		return err
	}
	ch, err := c.channelTo(key)
	if err != nil {
		return err
	}
	if m.total > initialLimit || uint64(len(data)) > ch.maxMessage {
		return failed(syscall.EMSGSIZE)
	}
	if c.blocked || ch.queue.head != nil || ch.limit-ch.sent < uint64(m.total) {
		c.flush()
		return full
	}
	ch.push(m)
	c.flush()
	return nil
}
