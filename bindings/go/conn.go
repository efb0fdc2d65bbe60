// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// DefaultSocket is where the daemon listens if neither Dialer.Socket nor $XENMSG_SOCKET says so.
const DefaultSocket = "/run/xenmsg/xenmsg.sock"

const (
	helloPatience  = 10 * time.Second
	outputMax      = 8 << 20 // bytes that a daemon which doesn't read lets wait here before it counts as gone
	gatherMax      = 128 << 10
	requestsMax    = 60 // of 64 that the daemon lets be outstanding
	channelsUsual  = 256
	idleAfter      = 10 * time.Second
	cancelPatience = 3 * time.Second
	lazyFor        = 5 * time.Millisecond
)

// A Dialer says how to connect. The zero Dialer is what [Dial] uses.
type Dialer struct {
	// Socket is the path of the daemon's socket; "": $XENMSG_SOCKET if set, else DefaultSocket.
	Socket string
	// Wait lets Dial wait, until its context ends, for a daemon that isn't there.
	Wait bool
	// Reconnect lets the connection outlive its daemon: it waits for the next one, and binds, subscribes and
	// watches there again. What was begun and can't have been handed to the old one waits for it, too.
	Reconnect bool
	// OnChange is called for what happens to the connection, by a goroutine of its own, one at a time. Of
	// several changes of a kind that come meanwhile it is told the last.
	OnChange func(Change)
}

// ChangeKind says what has happened to a connection.
type ChangeKind int

const (
	// Lost: the daemon has gone, without Reconnect for good. Err says how.
	Lost ChangeKind = iota + 1
	// Back: there is a daemon again, and what was bound, subscribed to and watched is so again.
	Back
	// Refused: but the new daemon refuses Endpoint, with Err: it is gone.
	Refused
	// Renumbered: this domain was restored or migrated, and has another number: Conn.DomID.
	Renumbered
	// Listeners: the topic Endpoint, bound with TopicOptions.CountListeners, has Count subscriptions.
	Listeners
)

// A Change is something that has happened to a connection.
type Change struct {
	Kind     ChangeKind
	Endpoint string
	Count    uint64
	Err      error
}

// A Conn is a connection to the daemon of this domain. Any number of goroutines may use it.
type Conn struct {
	dialer    Dialer
	path      string
	life      context.Context // ends by Close, and when the daemon is lost for good
	kill      context.CancelFunc
	over      chan struct{} // closed when nothing is read any more
	workers   sync.WaitGroup
	rebinding sync.WaitGroup
	slots     chan struct{} // for requests

	mu         sync.Mutex
	sock       *net.UnixConn // nil: there is no daemon now
	raw        syscall.RawConn
	closed     bool
	err        *Error        // why it is lost
	up         chan struct{} // closed when there is a daemon again
	domid      uint32
	maxMessage uint64

	out     []byte // not written yet
	lazy    int    // so many bytes of it may wait a while for others that go with them
	isLater bool   // until writeLazy is called
	blocked bool   // the writer is at it
	writer  chan struct{}
	tryOut  []byte // what try writes, and how much it has
	tried   int
	tryErr  error
	try     func(uintptr) bool

	channels   map[uint32]*channel
	toAddress  map[outKey]*channel
	sendable   []*channel
	nextNumber uint32
	ours       int // channels that we have opened

	requests    map[uint32]*request
	nextRequest uint32
	bindings    map[string]*binding
	changes     []Change
	changed     chan struct{}
	sweeper     *time.Timer
	reading     bool // what is read is being processed; all is written at its end
}

// Dial connects to the daemon of this domain.
func Dial(ctx context.Context) (*Conn, error) { return new(Dialer).Dial(ctx) }

func (d *Dialer) path() string {
	if d.Socket != "" {
		return d.Socket
	}
	// A program with more rights than its user believes no environment.
	if path := os.Getenv("XENMSG_SOCKET"); path != "" && os.Getuid() == os.Geteuid() && os.Getgid() == os.Getegid() {
		return path
	}
	return DefaultSocket
}

// Dial connects to the daemon of this domain.
func (d *Dialer) Dial(ctx context.Context) (*Conn, error) {
	c := &Conn{dialer: *d, path: d.path(), over: make(chan struct{}), slots: make(chan struct{}, requestsMax),
		writer: make(chan struct{}, 1), changed: make(chan struct{}, 1), bindings: map[string]*binding{},
		up: make(chan struct{})}
	c.life, c.kill = context.WithCancel(context.Background())
	c.try = func(fd uintptr) bool {
		for {
			c.tried, c.tryErr = syscall.Write(int(fd), c.tryOut)
			if c.tryErr != syscall.EINTR {
				return true
			}
		}
	}
	sock, hello, err := greet(ctx, c.path, 0, func() bool { return d.Wait })
	if err != nil {
		return nil, err
	}
	c.begin(sock, hello)
	c.workers.Add(2)
	go c.run(sock)
	go c.write()
	if d.OnChange != nil {
		go c.tell()
	}
	return c, nil
}

// begin makes the state of a new session.
func (c *Conn) begin(sock *net.UnixConn, hello welcome) {
	c.sock, c.domid, c.maxMessage = sock, hello.domid, hello.maxMessage
	c.raw, _ = sock.SyscallConn() // fails for a closed one only, as what follows
	c.out, c.lazy, c.blocked, c.err = nil, 0, false, nil
	c.channels, c.toAddress, c.sendable, c.ours = map[uint32]*channel{}, map[outKey]*channel{}, nil, 0
	c.requests = map[uint32]*request{}
	close(c.up)
}

// greet connects, says HELLO and reads WELCOME, to its last byte and no further. [4] It waits for a daemon that
// isn't there as long as that is wanted, and for one that is too busy to let more in.
func greet(ctx context.Context, path string, flags uint32, waits func() bool) (*net.UnixConn, welcome, *Error) {
	until := time.Now().Add(helloPatience)
	for pause := 10 * time.Millisecond; ; {
		sock, hello, err := greetOnce(ctx, path, flags)
		again := false
		if err != nil {
			switch err.Errno {
			case syscall.ENOENT, syscall.ECONNREFUSED, syscall.ENOTCONN:
				again = waits()
			case syscall.EAGAIN:
				again = time.Now().Before(until)
			}
		}
		if !again || !sleep(ctx, &pause, time.Second) {
			if err != nil && err.context == nil {
				err.context = ctx.Err()
			}
			return sock, hello, err
		}
	}
}

// sleep waits for a pause, which it doubles up to the longest one, and tells whether the context goes on.
func sleep(ctx context.Context, pause *time.Duration, longest time.Duration) bool {
	timer := time.NewTimer(*pause)
	defer timer.Stop()
	if *pause *= 2; *pause > longest {
		*pause = longest
	}
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// errorOf is one of what package net returns of the daemon's socket. A daemon that was killed resets it.
func errorOf(err error) *Error {
	said := failed(syscall.ENOTCONN)
	var errno syscall.Errno
	var timeout net.Error
	if errors.As(err, &errno) {
		if errno != syscall.ECONNRESET && errno != syscall.EPIPE {
			said.Errno = errno
		}
	} else if errors.As(err, &timeout) && timeout.Timeout() {
		said.Errno = syscall.ETIMEDOUT
	}
	return said
}

func greetOnce(ctx context.Context, path string, flags uint32) (sock *net.UnixConn, hello welcome, failure *Error) {
	made, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err == nil {
		sock = made.(*net.UnixConn)
		var f frame
		if f, failure = converse(ctx, sock, helloPatience, 0, appendHello(nil, flags), nil); failure == nil {
			hello, failure = takeWelcome(f)
		}
	} else if failure = errorOf(err); failure.Errno == syscall.ENOENT {
		failure.Reason = errorTexts[syscall.ECONNREFUSED]
	}
	if isOver(ctx) {
		failure = ended(ctx, NotDone)
	}
	if failure == nil {
		return sock, hello, nil
	}
	if sock != nil {
		sock.Close()
	}
	return nil, welcome{}, failure.about("connect to", path)
}

func takeWelcome(f frame) (welcome, *Error) {
	switch {
	case f.kind == frameGoodbye:
		return welcome{}, goodbye(f.payload)
	case f.kind != frameWelcome:
		return welcome{}, errProto("frame %d in place of WELCOME", f.kind)
	case le.Uint16(f.payload) != 1:
		return welcome{}, failed(syscall.EPROTONOSUPPORT)
	}
	return welcome{le.Uint32(f.payload[8:]), le.Uint64(f.payload[16:])}, nil
}

// A welcome is what is used of WELCOME. [4]
type welcome struct {
	domid      uint32
	maxMessage uint64
}

func goodbye(p fields) *Error {
	errno := p.errno()
	if errno == 0 {
		errno = syscall.ENOTCONN
	}
	return &Error{Errno: errno, Fate: NotDone, Reason: string(p)}
}

// converse writes what is asked and reads one frame and nothing behind it, until the context has ended for a while, or
// so long. `look` is called before it reads, unless that is nil.
func converse(ctx context.Context, sock *net.UnixConn, longest, while time.Duration, asked []byte, look func() error) (frame, *Error) {
	if longest > 0 {
		sock.SetDeadline(time.Now().Add(longest))
	}
	over, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		select {
		case <-ctx.Done():
			sock.SetDeadline(time.Now().Add(while))
		case <-over:
		}
	}()
	defer sock.SetDeadline(time.Time{})
	defer func() {
		close(over)
		<-gone
	}()
	if _, err := sock.Write(asked); err != nil {
		return frame{}, errorOf(err)
	}
	if look != nil {
		if err := look(); err != nil {
			return frame{}, errorOf(err)
		}
	}
	buffer := make([]byte, headerSize, 256)
	for have := 0; ; {
		n, err := sock.Read(buffer[have:])
		if err != nil {
			return frame{}, errorOf(err)
		}
		if have += n; have < len(buffer) {
			continue
		}
		f, size, failure := nextFrame(buffer)
		if failure != nil || size > 0 {
			return f, failure
		}
		buffer = append(buffer, make([]byte, padded(int(le.Uint32(buffer))))...)
	}
}

// DomID returns the number of this program's domain, which changes when the domain is restored or migrated.
func (c *Conn) DomID() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.domid
}

// MaxMessage returns the size of the largest message that the local daemon accepts, in bytes.
func (c *Conn) MaxMessage() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.maxMessage)
}

// Close ends the connection: all that is under way ends with what is known of it. Streams live on. It must not
// be called by Dialer.OnChange.
func (c *Conn) Close() error {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		if c.sock != nil {
			c.out = appendFrame(c.out, frameGoodbye, 0, make([]byte, 4))
			c.flush()
			// The daemon closes the socket when it has read all: answers that it hasn't read yet get a moment.
			c.sock.SetDeadline(time.Now().Add(time.Second))
		}
		c.kill()
	}
	c.mu.Unlock()
	c.workers.Wait()
	return nil
}

// run reads what the daemon says, and looks for the next one where that is wanted.
func (c *Conn) run(sock *net.UnixConn) {
	defer c.workers.Done()
	defer c.rebinding.Wait()
	defer close(c.over)
	for sock != nil {
		err := c.read(sock)
		sock.Close()
		if !c.lose(err) {
			break
		}
		sock = c.redial(err.Errno == syscall.EPROTO) // which would come to that again at once
	}
	c.mu.Lock()
	c.end(c.err)
	c.mu.Unlock()
	c.kill()
}

func (c *Conn) redial(waits bool) *net.UnixConn {
	for ; ; waits = true {
		if pause := time.Second; waits && !sleep(c.life, &pause, pause) {
			return nil
		}
		sock, hello, err := greet(c.life, c.path, 0, c.outlives)
		if err != nil {
			continue
		}
		c.rebinding.Wait() // it has failed, and would ask the next daemon, too
		c.mu.Lock()
		c.begin(sock, hello)
		if c.closed { // its deadline was set for the one before
			sock.SetDeadline(time.Now())
		}
		again := c.bound() // before others are granted here
		c.mu.Unlock()
		c.rebinding.Add(1)
		go c.rebind(again)
		return sock
	}
}

func (c *Conn) read(sock *net.UnixConn) *Error {
	buffer := make([]byte, 2*(headerSize+payloadMax))
	for have := 0; ; {
		n, err := sock.Read(buffer[have:])
		if err != nil {
			return errorOf(err).about("connection", "")
		}
		taken, failure := c.takeFrames(buffer[:have+n])
		if failure != nil {
			return failure.about("connection", "")
		}
		have = copy(buffer, buffer[taken:have+n])
	}
}

func (c *Conn) takeFrames(buffer []byte) (taken int, err *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = true
	for size := 1; size > 0 && err == nil; taken += size {
		var f frame
		if f, size, err = nextFrame(buffer[taken:]); err == nil && size > 0 {
			err = c.takeFrame(f)
		}
	}
	c.reading = false
	if err != nil {
		c.sendable = nil // nothing follows GOODBYE
	}
	if err != nil && err.Op == "protocol" && !c.blocked { // the daemon is told why the session ends [1]
		payload := append(le.AppendUint32(nil, uint32(err.Errno)), err.Reason...)
		c.out = appendFrame(c.out, frameGoodbye, 0, payload)
	}
	if len(c.out) > c.lazy || len(c.sendable) > 0 {
		c.flush()
	}
	return taken, err
}

// flush writes what can be written without waiting, and leaves the rest to the writer.
func (c *Conn) flush() {
	if c.reading || c.sock == nil {
		return
	}
	if c.blocked {
		if len(c.out) > outputMax {
			c.sock.Close()
		}
		return
	}
	for {
		c.lazy = 0
		c.gather()
		if len(c.out) == 0 {
			return
		}
		c.tryOut, c.tried, c.tryErr = c.out, 0, nil
		if err := c.raw.Write(c.try); err != nil {
			c.tried = 0
		}
		if c.tried == len(c.out) {
			c.out = c.out[:0]
			continue
		}
		if c.tried > 0 {
			c.out = c.out[:copy(c.out, c.out[c.tried:])]
		}
		c.blocked = true
		select {
		case c.writer <- struct{}{}:
		default:
		}
		return
	}
}

// writeLazy writes what was left for others to take along, if they haven't.
func (c *Conn) writeLazy() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isLater = false; c.lazy > 0 {
		c.flush()
	}
}

// write writes what the daemon has no room for at the moment.
func (c *Conn) write() {
	defer c.workers.Done()
	var data []byte
	for {
		select {
		case <-c.over:
			return
		case <-c.writer:
		}
		c.mu.Lock()
		for sock := c.sock; sock != nil && sock == c.sock && c.blocked; {
			data, c.out, c.lazy = c.out, data[:0], 0
			c.mu.Unlock()
			_, err := sock.Write(data)
			c.mu.Lock()
			if err != nil { // the reader learns of it, too
				sock.Close()
				break
			}
			if sock == c.sock && len(c.out) == 0 {
				c.blocked = false
				c.flush()
			}
		}
		c.mu.Unlock()
	}
}

func (c *Conn) gather() {
	for len(c.sendable) > 0 && len(c.out) < gatherMax && !c.closed { // nothing follows GOODBYE
		ch := c.sendable[0]
		c.sendable = c.sendable[:copy(c.sendable, c.sendable[1:])]
		ch.isSendable = false
		c.out = ch.appendData(c.out)
		ch.mayBeSendable()
		ch.endIfDone()
	}
}

// lose ends all that the daemon was to do. It returns whether the next one is looked for.
func (c *Conn) lose(err *Error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		err = &Error{Op: "connection", Errno: syscall.ECANCELED, Fate: NotDone}
	}
	c.sock, c.err, c.up, c.out = nil, err, make(chan struct{}), nil
	for _, ch := range c.channels {
		ch.lose()
	}
	for number, request := range c.requests {
		delete(c.requests, number)
		request.settle(err, nil)
		<-c.slots
	}
	for _, b := range c.bindings {
		b.streams, b.isGranted = nil, false
	}
	if c.sweeper != nil {
		c.sweeper.Stop()
		c.sweeper = nil
	}
	if c.closed {
		return false
	}
	c.note(Change{Kind: Lost, Err: err})
	return c.dialer.Reconnect
}

// end ends what waits for messages, streams and events.
func (c *Conn) end(err *Error) {
	if c.closed {
		err = &Error{Op: "connection", Errno: syscall.ECANCELED, Fate: NotDone}
	}
	c.err, c.dialer.Reconnect = err, false
	for _, b := range c.bindings {
		b.end(err)
	}
}

// bound are those that a daemon has granted. With the lock.
func (c *Conn) bound() (all []*binding) {
	for _, b := range c.bindings {
		if b.isBound && !b.drained {
			all = append(all, b)
		}
	}
	return all
}

// rebind asks a new daemon for all that the old one had. One runs at a time.
func (c *Conn) rebind(again []*binding) {
	defer c.rebinding.Done()
	for _, b := range again {
		err := b.bindAgain(c.life)
		if err == nil {
			continue
		}
		c.mu.Lock()
		if c.sock == nil || c.closed {
			c.mu.Unlock()
			return
		}
		if b.err == nil { // else the program has closed it meanwhile
			b.end(err)
			c.note(Change{Kind: Refused, Endpoint: b.name, Err: err})
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	if c.sock != nil && !c.closed {
		c.note(Change{Kind: Back})
	}
	c.mu.Unlock()
}

// note keeps a change for OnChange, one of each kind and endpoint.
func (c *Conn) note(change Change) {
	if c.dialer.OnChange == nil {
		return
	}
	for i, other := range c.changes {
		if other.Kind == change.Kind && other.Endpoint == change.Endpoint {
			c.changes = append(c.changes[:i], c.changes[i+1:]...)
			break
		}
	}
	c.changes = append(c.changes, change)
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Conn) tell() {
	for isOver := false; !isOver; {
		select {
		case <-c.over:
			isOver = true
		case <-c.changed:
		}
		for {
			c.mu.Lock()
			if len(c.changes) == 0 || c.closed {
				c.mu.Unlock()
				break
			}
			change := c.changes[0]
			c.changes = append(c.changes[:0], c.changes[1:]...)
			c.mu.Unlock()
			c.dialer.OnChange(change)
		}
	}
}

// ---- requests [3] ----

type request struct {
	done    chan struct{}
	err     *Error
	payload []byte
	of      *binding
}

func (r *request) settle(err *Error, payload []byte) {
	r.err, r.payload = err, payload
	close(r.done)
}

// request asks the daemon for something: for a binding, unless that is nil, which it forgets when nobody waits for it
// any more.
func (c *Conn) request(ctx context.Context, op, about string, kind uint8, payload []byte, of *binding) ([]byte, *Error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ended(ctx, NotDone).about(op, about)
	}
	c.mu.Lock()
	if err := c.gone(); err != nil || of != nil && of.err != nil {
		if err == nil {
			err = of.err // it was closed meanwhile
		}
		c.mu.Unlock()
		<-c.slots
		return nil, err.about(op, about)
	}
	c.nextRequest++
	r := &request{done: make(chan struct{}), of: of}
	c.requests[c.nextRequest] = r
	c.out = appendFrame(c.out, kind, c.nextRequest, payload)
	c.flush()
	c.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		c.mu.Lock()
		select {
		case <-r.done:
		default:
			if of != nil {
				of.forget()
				of.end(ended(ctx, Unknown)) // the name is free for the next one, who asks behind that
			}
			c.mu.Unlock()
			return nil, ended(ctx, Unknown).about(op, about)
		}
		c.mu.Unlock()
	}
	if r.err != nil {
		return nil, r.err.about(op, about)
	}
	return r.payload, nil
}

// gone is why nothing can be begun, nil if it can. With the lock.
func (c *Conn) gone() *Error {
	if c.closed {
		return failed(syscall.ECANCELED)
	}
	if c.sock == nil {
		return failed(syscall.ENOTCONN)
	}
	return nil
}

// await waits until there is a daemon, where the connection outlives one. With the lock, which it gives back
// meanwhile.
func (c *Conn) await(ctx context.Context) *Error {
	for {
		if err := c.gone(); err == nil || c.closed || !c.dialer.Reconnect {
			return err
		}
		up := c.up
		c.mu.Unlock()
		select {
		case <-up:
		case <-c.life.Done():
		case <-ctx.Done():
		}
		c.mu.Lock()
		if ctx.Err() != nil {
			return ended(ctx, NotDone)
		}
	}
}

func (c *Conn) tellDaemon(kind uint8, text string) {
	if c.gone() != nil {
		return
	}
	c.nextRequest++
	c.out = appendFrame(c.out, kind, c.nextRequest, []byte(text))
	c.flush()
}

// Ping measures a round trip to the daemon of a domain, by a call to it. The first one may have to make the link.
func (c *Conn) Ping(ctx context.Context, domain string) (time.Duration, error) {
	began := time.Now()
	_, err := c.ask(ctx, "ping", domain, "ping")
	return time.Since(began), err
}

// ---- what comes ----

func (c *Conn) takeFrame(f frame) *Error {
	switch p := f.payload; f.kind {
	case frameGoodbye:
		return goodbye(p)
	case frameReply:
		c.takeReply(f.channel, p)
	case frameOpen:
		return c.takeOpen(f)
	case frameIncoming:
		in := incomingStream{p.u64(), p.peer()}
		if b := c.bindings[in.peer.Endpoint]; b != nil && b.listens() {
			b.put(in)
		}
	case frameSelf:
		c.domid = p.u32()
		c.note(Change{Kind: Renumbered})
	case frameListeners:
		count := p.u64()
		c.note(Change{Kind: Listeners, Count: count, Endpoint: string(p)})
	case frameOpened, frameData, frameCredit, frameFin, frameReset, frameCancel, frameCancelled, frameWithdraw,
		frameReassigned, frameSender:
		return c.takeOfChannel(f)
	default:
		if f.kind < 128 {
			return errProto("frame of type %d", f.kind)
		}
	}
	return nil
}

func (c *Conn) takeReply(number uint32, p fields) {
	r := c.requests[number]
	if r == nil { // nobody waits for that of UNBIND
		return
	}
	delete(c.requests, number)
	<-c.slots
	err := p.reply()
	r.settle(err, append([]byte(nil), p...))
	if err == nil && r.of != nil {
		r.of.granted()
	}
}

func (c *Conn) takeOfChannel(f frame) *Error {
	ch := c.channels[f.channel]
	switch {
	case ch != nil && (!ch.resetSent || f.kind == frameReset):
		return ch.take(f)
	case ch != nil:
	case f.kind == frameData:
		return errProto("DATA for channel %d, which doesn't exist", f.channel)
	case f.kind == frameReset: // of a channel that has ended
		c.out = appendReset(c.out, f.channel, f.payload.reset().errno, 0, 0, 0)
	}
	return nil
}
