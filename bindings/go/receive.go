// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

// A Peer is the program at the other end. DomID comes from the hypervisor, UID, GID and PID from the kernel of
// its domain, and are as trustworthy as that. Of a program on another host all is as trustworthy as that host.
type Peer struct {
	DomID, UID, GID, PID uint32
	Domain               string // the name of its domain, "" if the daemon here doesn't know it
	Host                 string // "" for this one. A domid and a name mean another domain on each host
	Endpoint             string // to which it has sent, or which was called
}

// String returns HOST/DOMID.PID.
func (p Peer) String() string {
	host := ""
	if p.Host != "" {
		host = p.Host + "/"
	}
	return fmt.Sprintf("%s%d.%d", host, p.DomID, p.PID)
}

// A Message is one that was received, a request, or a reply.
type Message struct {
	Data     []byte // the receiver's
	Sender   Peer
	Endpoint string // that it was sent to
	Trace    string // the sender's, "" if it has given none
	Key      string // of a topic's: whose value it is

	ch       *channel
	number   uint32
	begin    uint64
	end      uint64
	notice   *Notice
	isCall   bool
	deadline time.Time
	answered bool
	ctx      context.Context
	cancel   context.CancelFunc
	over     bool // the answer is not wanted any more
}

// IsCall tells whether it is a request, which must be answered.
func (m *Message) IsCall() bool { return m.isCall }

// Context returns a context that ends when the answer to a request is no longer wanted: the caller's time is
// up, it has given up or died, or the connection has ended. Of a message it never ends.
func (m *Message) Context() context.Context {
	if !m.isCall {
		return context.Background()
	}
	m.ch.c.mu.Lock()
	defer m.ch.c.mu.Unlock()
	if m.ctx == nil {
		if m.deadline.IsZero() {
			m.ctx, m.cancel = context.WithCancel(context.Background())
		} else {
			m.ctx, m.cancel = context.WithDeadline(context.Background(), m.deadline)
		}
		if m.over || m.answered {
			m.cancel()
		}
	}
	return m.ctx
}

func (m *Message) finish() {
	m.over = true
	if m.cancel != nil {
		m.cancel()
	}
}

// Reply answers a request. It waits while the caller doesn't read its answers; only the caller knows whether it
// has arrived. It fails with EALREADY where the request was answered before, ECANCELED where the answer is no
// longer wanted, EMSGSIZE where it is too large: another one may be given then.
func (m *Message) Reply(data []byte) error { return m.answer(typeReply, 0, 0, data) }

// ReplyError answers a request with an error of the program's own: code is 1 to 65535, of any meaning to the
// two programs but Unanswered, and data what else there is to say. It fails as Reply does.
func (m *Message) ReplyError(code int, data []byte) error {
	if code < 1 || code > 65535 {
		return m.failed(syscall.EINVAL)
	}
	return m.answer(typeError, 0, uint16(code), data)
}

// ReplyExitStatus answers a request with how the command that was run for it ended, 1 to 255.
func (m *Message) ReplyExitStatus(status int) error {
	if status < 1 || status > 255 {
		return m.failed(syscall.EINVAL)
	}
	return m.answer(typeError, uint8(status), uint16(syscall.EIO), nil)
}

func (m *Message) failed(errno syscall.Errno) error {
	return &Error{Op: "reply", Address: m.Endpoint, Errno: errno, Fate: NotDone}
}

func (m *Message) answer(kind, exit uint8, code uint16, data []byte) error {
	if !m.isCall {
		return m.failed(syscall.EINVAL)
	}
	ch := m.ch
	c := ch.c
	c.mu.Lock()
	switch {
	case m.answered:
		c.mu.Unlock()
		return m.failed(syscall.EALREADY)
	case m.over || c.closed:
		c.mu.Unlock()
		return m.failed(syscall.ECANCELED)
	case uint64(len(data)) > c.maxMessage:
		c.mu.Unlock()
		return m.failed(syscall.EMSGSIZE)
	}
	m.answered = true
	out := newOutgoing(kind, nil, data)
	out.exit, out.code, out.number = exit, code, m.number
	ch.answers++
	ch.push(out)
	c.flush()
	ch.endIfDone()
	c.flush()
	c.mu.Unlock()
	<-out.done
	err := out.err
	out.free()
	c.mu.Lock()
	if m.cancel != nil {
		m.cancel()
	}
	c.mu.Unlock()
	if err != nil {
		return err.about("reply", m.Endpoint)
	}
	return nil
}

// ---- what waits for a receiver ----

const answersMax = 16 // to one caller, of which nothing is taken while as many wait for it

// An inbox is what an endpoint or a subscription has got.
type inbox struct {
	c       *Conn
	name    string
	kinds   uint32 // of BIND; 0: a subscription
	flags   uint32 // of SUBSCRIBE
	ready   []*channel
	wake    chan struct{} // has something in it when there is something to take
	over    chan struct{} // closed when nothing comes any more
	err     *Error
	drained bool
	isBound bool // the daemon has granted it once
}

func newInbox(c *Conn, name string) *inbox {
	return &inbox{c: c, name: name, wake: make(chan struct{}, 1), over: make(chan struct{})}
}

// end lets nothing come any more. With the lock.
func (b *inbox) end(err *Error) {
	if b.err != nil {
		return
	}
	b.err = err
	close(b.over)
	if b.c.boxes[b.name] == b {
		delete(b.c.boxes, b.name)
	}
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// take returns the next message, which is taken, of the channels in turn; nil: none is there. With the lock.
func (b *inbox) take() *Message {
	for len(b.ready) > 0 {
		ch := b.ready[0]
		b.ready = b.ready[:copy(b.ready, b.ready[1:])]
		ch.isReady = false
		if len(ch.waiting) == 0 || ch.answers >= answersMax {
			continue
		}
		m := ch.waiting[0]
		ch.waiting[0] = nil
		ch.waiting = ch.waiting[1:]
		if len(ch.waiting) == 0 {
			ch.waiting = nil
		}
		ch.taken = m.end
		ch.mayBeReady()
		if m.isCall {
			if ch.owed == nil {
				ch.owed = map[uint32]*Message{}
			}
			ch.owed[m.number] = m
		}
		ch.credit(true)
		ch.endIfDone()
		b.c.flush()
		return m
	}
	return nil
}

func (ch *channel) mayBeReady() {
	if ch.box != nil && !ch.isReady && len(ch.waiting) > 0 && ch.answers < answersMax && !ch.resetSent {
		ch.isReady = true
		ch.box.ready = append(ch.box.ready, ch)
		ch.box.signal()
	}
}

func (b *inbox) receive(ctx context.Context) (*Message, error) {
	for {
		b.c.mu.Lock()
		m, err := (*Message)(nil), b.err
		if err == nil && !b.drained && !b.c.closed { // behind GOODBYE nothing is taken
			m = b.take()
		}
		if len(b.ready) > 0 {
			b.signal()
		}
		b.c.mu.Unlock()
		if m != nil {
			return m, nil
		}
		if err != nil {
			return nil, err.about("receive", b.name)
		}
		select {
		case <-b.wake:
		case <-b.over:
		case <-ctx.Done():
			return nil, ended(ctx, NotDone).about("receive", b.name)
		}
	}
}

// ---- the daemon's channels ----

func (c *Conn) takeOpen(f frame) error {
	kind, peer, err := decodeOpen(f.payload)
	if err != nil {
		return err
	}
	if f.channel%2 == 0 || f.channel > 65535 || c.channels[f.channel] != nil || kind != kindMessage && kind != kindCall {
		return errProto("OPEN of channel %d, of kind %d", f.channel, kind)
	}
	ch := &channel{c: c, number: f.channel, kind: kind, sender: peer}
	ch.in.max = c.maxMessage
	c.channels[f.channel] = ch
	if ch.box = c.boxes[peer.Endpoint]; ch.box == nil || ch.box.drained {
		ch.reset(syscall.ENOENT)
	}
	return nil
}

func (ch *channel) takeMessage(in *incoming) error {
	if ch.kind == kindMessage && in.kind != typeMessage || ch.kind == kindCall && in.kind != typeRequest || in.isPart {
		return errProto("a message of type %d", in.kind)
	}
	if ch.kind == kindCall && ch.owed[in.number] != nil {
		return errProto("a request with the number of another one")
	}
	m := &Message{Data: in.data, Sender: ch.sender, Endpoint: ch.sender.Endpoint, Trace: in.trace, Key: in.key, ch: ch,
		number: in.number, begin: in.begin, end: in.end, notice: in.notice, isCall: ch.kind == kindCall}
	if in.hasDeadline && m.isCall {
		m.deadline = time.Now().Add(in.deadline)
	}
	ch.waiting = append(ch.waiting, m)
	ch.mayBeReady()
	return nil
}

func (ch *channel) takeOfTheirs(f frame) error {
	switch f.kind {
	case frameCancel:
		offset, err := decodeOne(f.payload, "CANCEL")
		if err != nil {
			return err
		}
		result := syscall.Errno(0)
		for i, m := range ch.waiting {
			if m.end-8 == offset {
				result = syscall.ECANCELED
				ch.waiting = append(ch.waiting[:i], ch.waiting[i+1:]...)
				break
			}
		}
		ch.c.out = appendCancelled(ch.c.out, ch.number, offset, result)
		ch.credit(len(ch.waiting) == 0)
		ch.endIfDone()
		return nil
	case frameWithdraw:
		number, err := decodeU32(f.payload, "WITHDRAW")
		if err == nil && ch.kind != kindCall {
			err = errProto("WITHDRAW of a message")
		}
		ch.withdrawn(number)
		return err
	case frameSender:
		domid, err := decodeU32(f.payload, "SENDER")
		ch.sender.DomID = domid
		return err
	}
	return errProto("frame %d for a channel that the daemon has opened", f.kind)
}

// withdrawn: the answer to a request is not wanted any more.
func (ch *channel) withdrawn(number uint32) {
	m := ch.owed[number]
	if m == nil {
		return
	}
	delete(ch.owed, number)
	m.finish()
	for out := ch.queue.head; out != nil; out = out.next {
		if out.number == number {
			ch.giveUpAnswer(out)
			break
		}
	}
	ch.endIfDone()
}

func (ch *channel) giveUpAnswer(out *outgoing) {
	if out.written == 0 {
		out.unlink()
		ch.answers--
		ch.mayBeReady()
	} else {
		out.giveUp()
	}
	out.settle(&Error{Errno: syscall.ECANCELED, Fate: NotDone}, nil)
}

// drop forgets what a channel of the daemon's has brought and what is owed to it.
func (ch *channel) drop() {
	ch.waiting = nil
	for number, m := range ch.owed {
		delete(ch.owed, number)
		m.finish()
	}
	for out := ch.queue.head; out != nil; out = ch.queue.head {
		out.unlink()
		out.settle(&Error{Errno: syscall.ECANCELED, Fate: NotDone}, nil)
	}
}

// drain refuses what the program hasn't taken, and ends the channel when all that it has taken is answered and
// the answers were read. [2.6]
func (ch *channel) drain() {
	for _, m := range ch.waiting {
		if ch.kind == kindCall {
			out := newOutgoing(typeRefusal, nil, nil)
			out.code, out.number, out.isAlone = uint16(syscall.ENOENT), m.number, true
			ch.taken, ch.hasRefused = m.end, true
			ch.answers++
			ch.push(out)
		}
	}
	if ch.kind == kindCall && (len(ch.owed) > 0 || ch.queue.head != nil || ch.consumed < ch.sent) {
		ch.waiting = nil
		ch.credit(true)
		return
	}
	ch.reset(syscall.ENOENT)
}

// ---- endpoints ----

// BindOptions say how an endpoint is to be. The zero value takes messages and calls.
type BindOptions struct {
	OnlyMessages bool // calls are refused with EPROTOTYPE
	OnlyCalls    bool // messages are
	// Shared lets other programs of this user that say so, too, bind the endpoint beside this one: a service
	// is replaced by starting the new one first.
	Shared bool
	// Workers is for Serve: how many calls are in service at a time; 0: 64.
	Workers int
}

// An Endpoint is where messages and calls arrive.
type Endpoint struct {
	box     *inbox
	workers int
}

// Bind makes an endpoint, which exists until its Close or the connection's.
func (c *Conn) Bind(ctx context.Context, name string, options *BindOptions) (*Endpoint, error) {
	o := BindOptions{}
	if options != nil {
		o = *options
	}
	kinds := uint32(3)
	if o.OnlyMessages {
		kinds &^= 2
	}
	if o.OnlyCalls {
		kinds &^= 1
	}
	if o.Shared {
		kinds |= 1 << 30
	}
	if o.Workers == 0 {
		o.Workers = 64
	}
	if kinds&3 == 0 || o.Workers < 0 {
		return nil, &Error{Op: "bind", Address: name, Errno: syscall.EINVAL, Fate: NotDone}
	}
	box, err := c.bindBox(ctx, name, kinds)
	if err != nil {
		return nil, err
	}
	return &Endpoint{box, o.Workers}, nil
}

func (c *Conn) bindBox(ctx context.Context, name string, kinds uint32) (*inbox, error) {
	box := newInbox(c, name)
	box.kinds = kinds
	return box, c.addBox(ctx, "bind", box)
}

// addBox asks the daemon for it. It is there before, since what it brings comes right behind the answer.
func (c *Conn) addBox(ctx context.Context, op string, box *inbox) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		err := c.await(ctx)
		if err == nil && (c.boxes[box.name] != nil || c.listeners[box.name] != nil) {
			err = &Error{Errno: syscall.EEXIST, Fate: NotDone}
		}
		if err != nil {
			return err.about(op, box.name)
		}
		c.boxes[box.name] = box
		c.mu.Unlock()
		failure := box.bindAgain(ctx)
		c.mu.Lock()
		if failure == nil {
			return nil
		}
		if errors.Is(failure, syscall.ENOTCONN) && c.dialer.Reconnect && !c.closed {
			delete(c.boxes, box.name)
			continue
		}
		var said *Error
		errors.As(failure, &said)
		box.end(said)
		return failure
	}
}

func (b *inbox) bindAgain(ctx context.Context) error {
	c := b.c
	op, kind, undo := "bind", uint8(frameBind), uint8(frameUnbind)
	c.mu.Lock()
	word := b.kinds
	if word == 0 {
		op, kind, undo, word = "subscribe", frameSubscribe, frameUnsubscribe, b.flags
	}
	c.mu.Unlock()
	_, err := c.request(ctx, op, b.name, kind, append(le.AppendUint32(nil, word), b.name...),
		func() { c.tellDaemon(undo, b.name) })
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		b.isBound = true
		b.flags |= 1 // of SUBSCRIBE: the next daemon is told that there was one
	}
	return err
}

// close takes nothing more: what wasn't taken isn't delivered. [4]
func (b *inbox) close() {
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.err != nil {
		return
	}
	b.end(&Error{Op: "receive", Address: b.name, Errno: syscall.ECANCELED, Fate: NotDone})
	for _, ch := range c.channels {
		if ch.box == b {
			ch.reset(syscall.ENOENT)
		}
	}
	if b.kinds == 0 {
		c.tellDaemon(frameUnsubscribe, b.name)
	} else if !b.drained {
		c.tellDaemon(frameUnbind, b.name)
	}
}

// Name returns the endpoint's name.
func (e *Endpoint) Name() string { return e.box.name }

// Receive takes the next message or request, which makes it delivered. Senders have their turns; those of one
// sender come in their order. A request must be answered, by one of the Replies.
func (e *Endpoint) Receive(ctx context.Context) (*Message, error) { return e.box.receive(ctx) }

// Close removes the endpoint: messages that weren't taken are not delivered, and calls in service end for
// their callers. Drain lets those go on.
func (e *Endpoint) Close() error {
	e.box.close()
	return nil
}

// Drain takes nothing more, and returns when the requests that were taken are answered, or the context ends;
// then what is still in service ends as by Close.
func (e *Endpoint) Drain(ctx context.Context) error {
	b, c := e.box, e.box.c
	c.mu.Lock()
	if b.err != nil || b.drained {
		c.mu.Unlock()
		return nil
	}
	b.drained = true
	c.mu.Unlock()
	_, err := c.request(ctx, "drain", b.name, frameDrain, []byte(b.name), nil)
	c.mu.Lock()
	for _, ch := range c.channels {
		if ch.box == b {
			ch.endIfDone()
		}
	}
	c.flush()
	c.mu.Unlock()
	for pause := time.Millisecond; err == nil && b.owes(); {
		if !sleep(ctx, pause) {
			err = ended(ctx, Unknown).about("drain", b.name)
		}
		if pause *= 2; pause > 20*time.Millisecond {
			pause = 20 * time.Millisecond
		}
	}
	b.close()
	return err
}

func (b *inbox) owes() bool {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	if b.err != nil {
		return false
	}
	for _, ch := range b.c.channels {
		if ch.box == b && !ch.resetSent {
			return true
		}
	}
	return false
}

// A Handler is called for each message and request. What it returns answers a request: data, or an error of
// [Answer], which may be wrapped; any other error is answered with the code EIO and its text. Of a message it
// is dropped. The context ends when the answer is no longer wanted.
type Handler func(ctx context.Context, m *Message) ([]byte, error)

// Serve calls the handler for what comes, until the endpoint is closed or drained, and returns why. Each
// request has a goroutine of its own, BindOptions.Workers of them at a time; messages are handled one after
// the other, in the order in which they came.
func (e *Endpoint) Serve(handler Handler) error {
	slots := make(chan struct{}, e.workers)
	var handlers sync.WaitGroup
	defer handlers.Wait()
	for {
		slots <- struct{}{}
		m, err := e.box.receive(context.Background())
		if err != nil {
			return err
		}
		if !m.isCall {
			<-slots
			handler(context.Background(), m)
			continue
		}
		handlers.Add(1)
		go func() {
			defer handlers.Done()
			ctx := m.Context()
			data, err := handler(ctx, m)
			<-slots // a caller that doesn't read its answer takes no other one's turn
			m.conclude(data, err)
		}()
	}
}

// conclude answers with what a handler has returned.
func (m *Message) conclude(data []byte, err error) {
	var own *Error
	switch {
	case err == nil:
		err = m.Reply(data)
		if errors.Is(err, syscall.EMSGSIZE) {
			m.ReplyError(int(syscall.EMSGSIZE), nil)
		}
	case errors.As(err, &own) && own.Errno == syscall.EREMOTEIO && own.ExitStatus != 0:
		m.ReplyExitStatus(own.ExitStatus)
	case errors.As(err, &own) && own.Errno == syscall.EREMOTEIO && own.Code >= 1 && own.Code <= 65535:
		m.ReplyError(own.Code, own.Data)
	default:
		m.ReplyError(int(syscall.EIO), []byte(err.Error()))
	}
}

// DrainTime is how long [Conn.Serve] lets the requests that it has taken go on when its context has ended.
const DrainTime = 10 * time.Second

// Serve binds an endpoint and calls the handler for what comes, as Endpoint.Serve does, until the context ends.
// Then it takes nothing more, waits for the requests that were taken, and returns nil.
func (c *Conn) Serve(ctx context.Context, name string, handler Handler) error {
	e, err := c.Bind(ctx, name, nil)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(handler) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	rest, cancel := context.WithTimeout(context.Background(), DrainTime)
	defer cancel()
	e.Drain(rest)
	<-served
	return nil
}
