// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"container/list"
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
	return callContext{m}
}

// A callContext costs something only where it is asked: a timer of each call wakes a thread of Go's.
type callContext struct{ m *Message }

func (c callContext) Deadline() (time.Time, bool) { return c.m.deadline, !c.m.deadline.IsZero() }
func (c callContext) Done() <-chan struct{}       { return c.m.made().Done() }
func (c callContext) Err() error                  { return c.m.made().Err() }
func (c callContext) Value(key any) any           { return c.m.made().Value(key) }

func (m *Message) made() context.Context {
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
		return m.failed("reply", syscall.EINVAL)
	}
	return m.answer(typeError, 0, uint16(code), data)
}

// ReplyExitStatus answers a request with how the command that was run for it ended, 1 to 255.
func (m *Message) ReplyExitStatus(status int) error {
	if status < 1 || status > 255 {
		return m.failed("reply", syscall.EINVAL)
	}
	return m.answer(typeError, uint8(status), uint16(syscall.EIO), nil)
}

func (m *Message) failed(op string, errno syscall.Errno) error {
	return failed(errno).about(op, m.Endpoint)
}

func (m *Message) answer(kind, exit uint8, code uint16, data []byte) error {
	if !m.isCall {
		return m.failed("reply", syscall.EINVAL)
	}
	ch := m.ch
	c := ch.c
	c.mu.Lock()
	switch {
	case m.answered:
		c.mu.Unlock()
		return m.failed("reply", syscall.EALREADY)
	case m.over || c.closed:
		c.mu.Unlock()
		return m.failed("reply", syscall.ECANCELED)
	case uint64(len(data)) > c.maxMessage:
		c.mu.Unlock()
		return m.failed("reply", syscall.EMSGSIZE)
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

// A binding is what the daemon was asked for until further notice: an endpoint, a topic, a subscription, a
// listener or a watch; and what it has brought.
type binding struct {
	c         *Conn
	name      string
	key       string // in Conn.bindings
	op, takes string // what is done with it, for errors
	ask, undo uint8  // frames; of a watch none
	word      uint32 // in front of the name: the kinds of BIND, the flags of SUBSCRIBE
	ready     []*channel
	streams   []incomingStream // at most as many as the daemon lets wait
	events    list.List        // Event, one of each thing, which
	pending   map[thing]*list.Element
	wake      chan struct{} // has something in it when there is something to take
	over      chan struct{} // closed when nothing comes any more
	err       *Error
	drained   bool
	left      chan struct{} // of one that is drained: has something in it when a channel has ended
	isBound   bool          // the daemon has granted it once,
	isGranted bool          // and so has this one; what comes before is for one of its name that was closed
	call      *outgoing     // of a watch, to the daemon, whose answer never ends
	begun     chan struct{} // closed by its first part
	told      map[thing]*toldThing
	isListed  bool // it was told so,
	isCut     bool // and that there is more
	isAgain   bool // the list began anew, and nothing is told yet of who is away, since links come back
}

// bind asks the daemon for it. It is there before, since what it brings comes right behind the answer.
func (c *Conn) bind(ctx context.Context, b binding) (*binding, error) {
	b.c, b.wake, b.over = c, make(chan struct{}, 1), make(chan struct{})
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		err := c.await(ctx)
		if b.key = b.name; b.ask == 0 { // none of a name
			c.nextRequest++
			b.key = string(le.AppendUint32([]byte{0}, c.nextRequest))
		}
		if err == nil && c.bindings[b.key] != nil {
			err = failed(syscall.EEXIST)
		}
		if err != nil {
			return nil, err.about(b.op, b.name)
		}
		c.bindings[b.key] = &b
		c.mu.Unlock()
		err = b.bindAgain(ctx)
		c.mu.Lock()
		if err == nil {
			return &b, nil
		}
		if c.bindings[b.key] == &b {
			delete(c.bindings, b.key)
		}
		if err.Errno != syscall.ENOTCONN || !c.dialer.Reconnect || c.closed {
			return nil, err
		}
	}
}

func (b *binding) bindAgain(ctx context.Context) *Error {
	if b.ask == 0 {
		return b.watchAgain(ctx)
	}
	payload := append(le.AppendUint32(nil, b.word), b.name...)
	_, err := b.c.request(ctx, b.op, b.name, b.ask, payload, b)
	return err
}

// granted: the daemon has it. With the lock.
func (b *binding) granted() {
	b.isBound, b.isGranted = true, true
	if b.ask == frameSubscribe {
		b.word |= 1 // the next daemon is told that there was one
	}
}

func (b *binding) listens() bool { return b.ask == frameBind && b.word&4 != 0 }

// forget ends it at the daemon. With the lock.
func (b *binding) forget() {
	if b.ask == 0 {
		b.call.cancel(failed(syscall.ECANCELED))
		return
	}
	b.c.tellDaemon(b.undo, b.name)
}

// end lets nothing come any more. With the lock.
func (b *binding) end(err *Error) {
	if b.err != nil {
		return
	}
	b.err = err.about(b.takes, b.name)
	close(b.over)
	if b.c.bindings[b.key] == b {
		delete(b.c.bindings, b.key)
	}
}

// Close ends it. What wasn't taken isn't delivered, and calls in service end for their callers; a topic ends
// behind what was published, and streams that were accepted live on.
func (b *binding) Close() error { // [4]
	c := b.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.err != nil {
		return nil
	}
	b.end(failed(syscall.ECANCELED))
	for _, ch := range c.channels {
		if ch.box == b {
			ch.reset(syscall.ENOENT)
		}
	}
	if !b.drained {
		b.forget()
	}
	return nil
}

func (b *binding) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// next waits until `take`, which is called with the lock, has found something.
func (b *binding) next(ctx context.Context, take func() bool) error {
	for {
		b.c.mu.Lock()
		found, err := take(), b.err
		if found && len(b.ready)+len(b.streams)+b.events.Len() > 0 {
			b.signal() // for others who wait
		}
		b.c.mu.Unlock()
		if found {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-b.wake:
		case <-b.over:
		case <-ctx.Done():
			return ended(ctx, NotDone).about(b.takes, b.name)
		}
	}
}

// take returns the next message, which is taken, or only looked at, of the channels in turn; nil: none is there. With
// the lock.
func (b *binding) take(looks bool) *Message {
	for len(b.ready) > 0 && b.err == nil && !b.drained && !b.c.closed { // behind GOODBYE nothing is taken
		ch := b.ready[0]
		b.ready = b.ready[:copy(b.ready, b.ready[1:])]
		ch.isReady = false
		if len(ch.waiting) == 0 || ch.answers >= answersMax {
			continue
		}
		if looks {
			ch.lookedAt = ch.waiting[0]
			return ch.lookedAt
		}
		return ch.takeFirst()
	}
	return nil
}

func (ch *channel) takeFirst() *Message {
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
	return m
}

func (ch *channel) mayBeReady() {
	if ch.box != nil && !ch.isReady && len(ch.waiting) > 0 && ch.lookedAt == nil && ch.answers < answersMax && !ch.resetSent {
		ch.isReady = true
		ch.box.ready = append(ch.box.ready, ch)
		ch.box.signal()
	}
}

func (b *binding) receive(ctx context.Context, looks bool) (m *Message, err error) {
	err = b.next(ctx, func() bool {
		if m = b.take(looks); m != nil {
			b.c.flush()
		}
		return m != nil
	})
	return m, err
}

// ---- the daemon's channels ----

func (c *Conn) takeOpen(f frame) *Error {
	p := f.payload
	kind := p.take(4)[0]
	peer := p.peer()
	if f.channel%2 == 0 || f.channel > 65535 || c.channels[f.channel] != nil || kind != kindMessage && kind != kindCall {
		return errProto("OPEN of channel %d, of kind %d", f.channel, kind)
	}
	ch := &channel{c: c, number: f.channel, kind: kind, sender: peer}
	ch.in.max = c.maxMessage
	c.channels[f.channel] = ch
	if b := c.bindings[peer.Endpoint]; b != nil && b.isGranted && !b.drained && !b.listens() {
		ch.box = b
	} else {
		ch.reset(syscall.ENOENT)
	}
	return nil
}

func (ch *channel) takeMessage(in *incoming) *Error {
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

func (ch *channel) takeOfTheirs(kind uint8, p fields) *Error {
	switch kind {
	case frameCancel:
		offset, result := p.u64(), syscall.Errno(0)
		for i, m := range ch.waiting {
			if m.end-8 == offset {
				result = syscall.ECANCELED
				ch.waiting = append(ch.waiting[:i], ch.waiting[i+1:]...)
				if ch.lookedAt == m {
					ch.lookedAt = nil
					ch.mayBeReady()
				}
				break
			}
		}
		ch.c.out = appendCancelled(ch.c.out, ch.number, offset, result)
		ch.credit(len(ch.waiting) == 0)
		ch.endIfDone()
		return nil
	case frameWithdraw:
		if ch.kind != kindCall {
			return errProto("WITHDRAW of a message")
		}
		ch.withdrawn(p.u32())
		return nil
	case frameSender:
		ch.sender.DomID, ch.sender.Domain = p.u32(), p.text()
		return nil
	}
	return errProto("frame %d for a channel that the daemon has opened", kind)
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
	out.settle(failed(syscall.ECANCELED), nil)
}

// drop forgets what a channel of the daemon's has brought and what is owed to it.
func (ch *channel) drop() {
	ch.waiting = nil
	for number, m := range ch.owed {
		delete(ch.owed, number)
		m.finish()
	}
	ch.queue.settle(failed(syscall.ECANCELED))
	if ch.box != nil && ch.box.drained {
		select {
		case ch.box.left <- struct{}{}:
		default:
		}
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

// An Endpoint is where messages and calls arrive. Drain lets the calls in service go on, Close doesn't.
type Endpoint struct {
	*binding
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
		return nil, invalid("bind", name)
	}
	b, err := c.bindKinds(ctx, "bind", "receive", name, kinds)
	if err != nil {
		return nil, err
	}
	return &Endpoint{b, o.Workers}, nil
}

func (c *Conn) bindKinds(ctx context.Context, op, takes, name string, kinds uint32) (*binding, error) {
	if len(name) > 63 { // more than a frame has room for would end the session
		return nil, invalid(op, name)
	}
	return c.bind(ctx, binding{name: name, op: op, takes: takes, ask: frameBind, undo: frameUnbind, word: kinds})
}

// Name returns the endpoint's name.
func (e *Endpoint) Name() string { return e.name }

// Receive takes the next message or request, which makes it delivered. Senders have their turns; those of one
// sender come in their order. A request must be answered, by one of the Replies.
func (e *Endpoint) Receive(ctx context.Context) (*Message, error) { return e.receive(ctx, false) }

// Peek returns the next message without taking it, so that a program does something with it before it counts as
// delivered: Take or Refuse must follow. Later ones of its sender wait behind it, and until then its sender may
// withdraw it. Only an endpoint for OnlyMessages has this; another one fails with EPROTOTYPE.
func (e *Endpoint) Peek(ctx context.Context) (*Message, error) {
	if e.word&2 != 0 {
		return nil, failed(syscall.EPROTOTYPE).about("peek", e.name)
	}
	return e.receive(ctx, true)
}

// Take makes a message delivered that Peek has returned. It fails with ECANCELED where that isn't there any more: its
// sender has withdrawn it or gone.
func (m *Message) Take() error {
	return m.decide("take", func(ch *channel) { ch.takeFirst() })
}

// Refuse gives back a message that Peek has returned: it isn't delivered. Its sender gets EREMOTEIO and this Code, 1 to
// 4095, of any meaning to the two programs, and ECANCELED for what it has sent behind it; of a message larger than
// 64 KiB, of which parts were taken as they came, ECONNRESET. It fails as Take does.
func (m *Message) Refuse(code int) error {
	if code < 1 || code > 4095 {
		return m.failed("refuse", syscall.EINVAL)
	}
	return m.decide("refuse", func(ch *channel) {
		ch.resetFrom(syscall.Errno(code), refusedFlag, m.begin) // [2.4]
	})
}

func (m *Message) decide(op string, do func(*channel)) error {
	c := m.ch.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.ch.lookedAt != m || m.ch.resetSent || c.closed {
		return m.failed(op, syscall.ECANCELED)
	}
	m.ch.lookedAt = nil
	do(m.ch)
	c.flush()
	return nil
}

// Drain takes nothing more, and returns when the requests that were taken are answered, or the context ends;
// then what is still in service ends as by Close.
func (e *Endpoint) Drain(ctx context.Context) error {
	b, c := e.binding, e.c
	c.mu.Lock()
	if b.err != nil || b.drained {
		c.mu.Unlock()
		return nil
	}
	b.drained, b.left = true, make(chan struct{}, 1)
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
	for err == nil && b.owes() {
		select {
		case <-b.left:
		case <-b.over:
		case <-ctx.Done():
			err = ended(ctx, Unknown).about("drain", b.name)
		}
	}
	if err != nil { // the daemon may not have heard of it
		c.mu.Lock()
		b.drained = false
		c.mu.Unlock()
	}
	b.Close()
	return asError(err)
}

func (b *binding) owes() bool {
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

// Serve calls the handler for what comes, until the endpoint is closed or drained, and returns why. Requests are
// handled beside each other, BindOptions.Workers of them at a time; messages are handled one after the other, in
// the order in which they came.
func (e *Endpoint) Serve(handler Handler) error {
	s := &service{Endpoint: e, handler: handler, waiting: 1}
	s.running.Add(1)
	s.work()
	s.running.Wait()
	return s.err
}

// A service is goroutines, of which a few wait for what comes: whoever gets it also handles it.
type service struct {
	*Endpoint
	handler  Handler
	running  sync.WaitGroup
	waiting  int
	handling int  // requests
	isBusy   bool // with a message
	err      error
}

const waitingMax = 4

func (s *service) work() {
	defer s.running.Done()
	for goesOn := true; goesOn; {
		m, err := s.take()
		if err != nil {
			return
		}
		data, failure := s.handler(m.Context(), m)
		s.c.mu.Lock()
		if m.isCall {
			s.handling--
			s.mayStart()
		} else {
			s.isBusy = false
		}
		if len(s.ready) > 0 {
			s.signal() // for others, who were told when nothing could be taken
		}
		s.c.mu.Unlock()
		if m.isCall {
			m.conclude(data, failure) // a caller that doesn't read it takes no other one's turn
		}
		s.c.mu.Lock()
		if goesOn = s.waiting < waitingMax; goesOn {
			s.waiting++
		}
		s.c.mu.Unlock()
	}
}

// take takes the next message or request, but nothing while a message is handled, or as many requests as may be.
func (s *service) take() (m *Message, err error) {
	err = s.next(context.Background(), func() bool {
		if s.isBusy || s.handling >= s.Endpoint.workers {
			return false
		}
		if m = s.binding.take(false); m == nil {
			return false
		}
		s.waiting--
		if s.isBusy = !m.isCall; m.isCall {
			s.handling++
			s.mayStart()
		}
		if len(s.c.out) > s.c.lazy {
			s.c.flush()
		}
		return true
	})
	if err != nil {
		s.c.mu.Lock()
		s.err = err
		s.c.mu.Unlock()
	}
	return m, err
}

// mayStart lets somebody wait for the next request. With the lock.
func (s *service) mayStart() {
	if s.waiting == 0 && s.handling < s.Endpoint.workers {
		s.waiting++
		s.running.Add(1)
		go s.work()
	}
}

// conclude answers with what a handler has returned.
func (m *Message) conclude(data []byte, err error) {
	if err == nil {
		err = m.Reply(data)
	} else {
		err = m.replyFailure(err)
	}
	if err != nil && !errors.Is(err, syscall.EALREADY) { // whatever it was: the caller waits
		m.ReplyError(int(syscall.EMSGSIZE), nil)
	}
}

func (m *Message) replyFailure(err error) error {
	var own *Error
	switch {
	case errors.As(err, &own) && own.Errno == syscall.EREMOTEIO && own.ExitStatus != 0:
		return m.ReplyExitStatus(own.ExitStatus)
	case errors.As(err, &own) && own.Errno == syscall.EREMOTEIO && own.Code >= 1 && own.Code <= 65535:
		return m.ReplyError(own.Code, own.Data)
	}
	return m.ReplyError(int(syscall.EIO), []byte(err.Error()))
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
