// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"sync"
	"syscall"
	"time"
)

// An outgoing message, request or answer.
type outgoing struct {
	ch         *channel
	prev, next *outgoing
	list       *outgoingList // in which it is
	kind, exit uint8
	code       uint16
	block      []byte // properties
	data       []byte // the caller's, who waits
	number     uint32
	begin, end uint64 // of what is sent; where it lies in the stream
	written    int    // of its bytes in the stream
	total      int
	taken      bool // a request that the server has
	isSettled  bool
	isAlone    bool // nobody waits for it any more, or perhaps
	moved      int  // how often it was begun anew
	cause      *Error
	parts      *Message // of the reply, so far
	nextPart   uint32
	watch      *binding // whose call it is, which it outlives
	cancelling *time.Timer
	done       chan struct{}
	err        *Error
	reply      *Message
}

type outgoingList struct{ head, tail *outgoing }

func (l *outgoingList) push(m *outgoing) {
	m.list, m.prev, m.next = l, l.tail, nil
	if l.tail != nil {
		l.tail.next = m
	} else {
		l.head = m
	}
	l.tail = m
}

func (l *outgoingList) settle(err *Error) {
	for m := l.head; m != nil; m = l.head {
		m.unlink()
		m.settle(err, nil)
	}
}

func (m *outgoing) unlink() {
	l := m.list
	if l == nil {
		return
	}
	if m.prev != nil {
		m.prev.next = m.next
	} else {
		l.head = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	} else {
		l.tail = m.prev
	}
	m.list, m.prev, m.next = nil, nil, nil
}

var outgoings = sync.Pool{New: func() any { return &outgoing{done: make(chan struct{}, 1)} }}

func newOutgoing(kind uint8, block, data []byte) *outgoing {
	m := outgoings.Get().(*outgoing)
	*m = outgoing{kind: kind, block: block, data: data, done: m.done,
		total: 16 + padded(len(block)+len(data))}
	return m
}

// free gives it back, but for one that a channel still has.
func (m *outgoing) free() {
	if !m.isAlone && m.list == nil { // in this order: of one that is alone the list is its channel's
		*m = outgoing{done: m.done}
		outgoings.Put(m)
	}
}

// settle says what has become of it, once. With the lock.
func (m *outgoing) settle(err *Error, reply *Message) {
	if m.isSettled {
		return
	}
	m.isSettled, m.err, m.reply, m.parts = true, err, reply, nil
	if m.ch != nil && m.ch.calls[m.number] == m {
		delete(m.ch.calls, m.number)
	}
	if m.cancelling != nil {
		m.cancelling.Stop()
		m.isAlone = true // its timer may run just now
	}
	if m.watch != nil {
		m.watch.calledBack(m, err)
	}
	m.done <- struct{}{}
}

// append adds its bytes from `from` on, `count` of them.
func (m *outgoing) append(out []byte, from, count int) []byte {
	end := from + count
	if from == 0 {
		kind := m.kind
		if m.block != nil {
			kind |= typeProperties
		}
		out = le.AppendUint32(out, uint32(len(m.block)+len(m.data)))
		out = append(out, kind, m.exit, byte(m.code), byte(m.code>>8))
		from = 8
	}
	at := 8
	for _, piece := range [2][]byte{m.block, m.data} {
		if from < end && from < at+len(piece) {
			upto := end - at
			if upto > len(piece) {
				upto = len(piece)
			}
			out = append(out, piece[from-at:upto]...)
			from = at + upto
		}
		at += len(piece)
	}
	for state := m.total - 8; from < end && from < state; from++ {
		out = append(out, 0)
	}
	if from < end {
		state := uint32(stateSent)
		if m.isSettled { // given up halfway: whoever reads it skips it
			state = stateGivenUp
		}
		out = le.AppendUint32(le.AppendUint32(out, state), m.number)
	}
	return out
}

// giveUp keeps the place and the length of what was begun, whose bytes mean nothing any more.
func (m *outgoing) giveUp() {
	m.block, m.data, m.isAlone = nil, nil, true
}

type outKey struct {
	address string
	kind    uint8
}

// A channel of this session, ours (we send messages and requests) or the daemon's (we take them).
type channel struct {
	c         *Conn
	number    uint32
	kind      uint8
	isOurs    bool
	resetSent bool
	finSent   bool
	finCame   bool

	// what we send
	limit, sent, consumed uint64
	queue                 outgoingList // not wholly sent
	isSendable            bool         // it is in the connection's list

	// what we take
	in       messageStream
	reported uint64

	// ours
	key        outKey
	isOpened   bool
	isRetired  bool // nothing is begun on it any more
	maxMessage uint64
	acceptor   Peer
	unsettled  outgoingList // sent, and not taken
	cancels    map[uint64]*outgoing
	calls      map[uint32]*outgoing
	nextCall   uint32
	used       time.Time

	// the daemon's
	box        *binding
	sender     Peer
	taken      uint64     // the end of what the program has taken
	waiting    []*Message // whole, and not taken
	lookedAt   *Message   // the first of them, while the program decides
	isReady    bool       // it is in the box's list
	owed       map[uint32]*Message
	answers    int  // under way to the caller
	hasRefused bool // requests, since the endpoint drains
}

// ---- opening and ending ours ----

// channelTo returns the channel for a key, which it opens if there is none.
func (c *Conn) channelTo(key outKey) (*channel, *Error) {
	if ch := c.toAddress[key]; ch != nil {
		return ch, nil
	}
	if c.ours >= channelsUsual {
		c.endIdle(0)
	}
	for tries := 0; ; tries++ {
		if tries > 32768 {
			return nil, failed(syscall.ENOBUFS)
		}
		number := c.nextNumber
		c.nextNumber = (c.nextNumber + 2) % 65536
		if c.channels[number] != nil {
			continue
		}
		ch := &channel{c: c, number: number, kind: key.kind, isOurs: true, key: key, limit: initialLimit, maxMessage: c.maxMessage}
		ch.in.max, ch.in.skips = c.maxMessage, true
		c.channels[number], c.toAddress[key] = ch, ch
		c.ours++
		c.out = appendOpen(c.out, number, key.kind, key.address)
		if c.sweeper == nil {
			c.sweeper = time.AfterFunc(idleAfter, c.sweep)
		}
		return ch, nil
	}
}

// sweep ends channels that nobody has used for a while.
func (c *Conn) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sweeper == nil || c.sock == nil || c.closed {
		return
	}
	c.endIdle(idleAfter)
	c.flush()
	if c.sweeper = nil; c.ours > 0 {
		c.sweeper = time.AfterFunc(idleAfter, c.sweep)
	}
}

func (c *Conn) endIdle(longer time.Duration) {
	now := time.Now()
	for _, ch := range c.channels {
		if ch.isOurs && ch.isIdle() && now.Sub(ch.used) >= longer {
			ch.retire()
		}
	}
}

func (ch *channel) isIdle() bool {
	return ch.queue.head == nil && ch.unsettled.head == nil && len(ch.calls) == 0
}

// retire lets the next message to its address open another channel.
func (ch *channel) retire() {
	ch.isRetired = true
	ch.leaveAddress()
	ch.endIfDone()
}

func (ch *channel) leaveAddress() {
	if ch.isOurs && ch.c.toAddress[ch.key] == ch {
		delete(ch.c.toAddress, ch.key)
	}
}

// endIfDone says FIN when there is nothing more to send, and forgets the channel that has ended. [2]
func (ch *channel) endIfDone() {
	if ch.resetSent {
		return
	}
	if ch.box != nil && ch.box.drained {
		ch.drain()
		return
	}
	done := ch.finCame && len(ch.waiting) == 0 && ch.in.current == nil && len(ch.owed) == 0 && ch.queue.head == nil
	if ch.isOurs {
		done = ch.isRetired && ch.isIdle()
	}
	if done && !ch.finSent {
		ch.finSent = true
		ch.c.out = appendU64(ch.c.out, frameFin, ch.number, ch.sent)
	}
	if ch.finSent && ch.finCame {
		ch.forget()
	}
}

func (ch *channel) forget() {
	if ch.c.channels[ch.number] != ch {
		return
	}
	delete(ch.c.channels, ch.number)
	if ch.isOurs {
		ch.c.ours--
	}
}

// ---- sending ----

func (ch *channel) mayBeSendable() {
	if !ch.isSendable && !ch.resetSent && ch.queue.head != nil && ch.limit-ch.sent >= 8 {
		ch.isSendable = true
		ch.c.sendable = append(ch.c.sendable, ch)
	}
}

func (ch *channel) push(m *outgoing) {
	m.ch, ch.used = ch, time.Now()
	ch.queue.push(m)
	ch.mayBeSendable()
}

// appendData adds one DATA frame of what waits.
func (ch *channel) appendData(out []byte) []byte {
	room := payloadMax
	if may := ch.limit - ch.sent; may < uint64(room) {
		room = int(may) &^ 7
	}
	if room == 0 || ch.queue.head == nil || ch.resetSent {
		return out
	}
	at, whole := len(out), 0
	out = appendHeader(out, frameData, 0, ch.number, 0)
	for room > 0 && ch.queue.head != nil {
		m := ch.queue.head
		if m.written == 0 {
			m.begin, m.end = ch.sent, ch.sent+uint64(m.total)
		}
		count := m.total - m.written
		if count > room {
			count = room
		}
		out = m.append(out, m.written, count)
		m.written += count
		ch.sent += uint64(count)
		room -= count
		if m.written == m.total {
			whole++
			m.unlink()
			ch.wholly(m)
		}
	}
	le.PutUint32(out[at:], uint32(len(out)-at-headerSize))
	le.PutUint16(out[at+6:], uint16(whole))
	return out
}

// wholly: all of it was sent.
func (ch *channel) wholly(m *outgoing) {
	if ch.isOurs {
		if !m.isSettled {
			ch.unsettled.push(m)
		}
		return
	}
	ch.answers--
	delete(ch.owed, m.number)
	ch.mayBeReady()
	m.settle(nil, nil)
}

// consumedUpTo settles what lies below. [2]
func (ch *channel) consumedUpTo(consumed uint64) *Error {
	if consumed > ch.sent {
		return errProto("%d bytes were consumed, of %d", consumed, ch.sent)
	}
	if consumed > ch.consumed {
		ch.consumed = consumed
	}
	for m := ch.unsettled.head; m != nil && m.end <= ch.consumed; m = ch.unsettled.head {
		m.unlink()
		ch.tookThere(m)
	}
	return nil
}

func (ch *channel) tookThere(m *outgoing) {
	if ch.kind == kindMessage {
		m.settle(nil, nil)
		return
	}
	m.taken = true
	if m.cancelling != nil {
		ch.withdraw(m)
	}
}

// withdraw gives up a request that was taken. [2.3]
func (ch *channel) withdraw(m *outgoing) {
	if m.isSettled || ch.calls[m.number] != m {
		return
	}
	out := appendHeader(ch.c.out, frameWithdraw, 0, ch.number, 4)
	ch.c.out = appendPadding(le.AppendUint32(out, m.number), 4)
	err := *m.cause
	err.Fate = Unknown
	m.settle(&err, nil)
	ch.endIfDone()
}

// cancel begins to give up a message or request: it is settled by then, or will be in a moment. [2.2]
func (m *outgoing) cancel(cause *Error) {
	ch := m.ch
	if m.isSettled {
		return
	}
	m.cause = cause
	switch {
	case m.written < m.total:
		if m.written == 0 {
			m.unlink()
		} else {
			m.giveUp()
		}
		m.settle(cause, nil)
	case m.taken:
		ch.withdraw(m)
	default:
		if ch.cancels == nil {
			ch.cancels = map[uint64]*outgoing{}
		}
		ch.cancels[m.end-8] = m
		ch.c.out = appendU64(ch.c.out, frameCancel, ch.number, m.end-8)
		m.cancelling = time.AfterFunc(cancelPatience, func() {
			ch.c.mu.Lock()
			defer ch.c.mu.Unlock()
			ch.cancelled(m, syscall.ECONNRESET)
			ch.c.flush()
		})
	}
	ch.c.flush()
	ch.endIfDone()
}

// cancelled: what the other side says of a CANCEL.
func (ch *channel) cancelled(m *outgoing, result syscall.Errno) {
	delete(ch.cancels, m.end-8)
	if m.isSettled {
		return
	}
	m.unlink()
	switch {
	case result == 0:
		ch.tookThere(m)
		ch.endIfDone()
		return
	case result == syscall.ECANCELED:
		m.settle(m.cause, nil)
	default:
		err := *m.cause
		err.Errno, err.Fate = syscall.ECONNRESET, Unknown
		m.settle(&err, nil)
	}
	ch.endIfDone()
}

// ---- what comes ----

func (ch *channel) take(f frame) *Error {
	switch p := f.payload; f.kind {
	case frameData:
		return ch.takeData(p)
	case frameReset:
		ch.takeReset(p.reset())
		return nil
	case frameCredit:
		if err := ch.consumedUpTo(p.u64()); err != nil {
			return err
		}
		ch.mayUpTo(p.u64())
	case frameFin:
		if p.u64() != ch.in.received || ch.finCame || ch.isOurs && !ch.finSent || ch.in.current != nil {
			return errProto("FIN where %d bytes had come", ch.in.received)
		}
		ch.finCame = true
	default:
		if ch.isOurs {
			return ch.takeOfOurs(f.kind, p)
		}
		return ch.takeOfTheirs(f.kind, p)
	}
	ch.endIfDone()
	return nil
}

func (ch *channel) mayUpTo(limit uint64) {
	if limit > ch.limit {
		ch.limit = limit
		ch.mayBeSendable()
	}
}

func (ch *channel) takeOfOurs(kind uint8, p fields) *Error {
	switch kind {
	case frameOpened:
		if ch.isOpened {
			return errProto("OPENED comes twice")
		}
		ch.isOpened = true
		ch.mayUpTo(p.u64())
		ch.maxMessage = p.u64()
		if hasAcceptor := p.take(4)[2]&1 != 0; hasAcceptor && len(p) < 16 {
			return errProto("OPENED is too short")
		} else if hasAcceptor {
			ch.acceptor = p.identity()
			_, ch.acceptor.Endpoint, _ = cutAddress(ch.key.address)
		}
		return nil
	case frameCancelled:
		if m := ch.cancels[p.u64()]; m != nil {
			ch.cancelled(m, p.errno())
		}
		return nil
	case frameReassigned:
		if err := ch.consumedUpTo(p.u64()); err != nil {
			return err
		}
		ch.reassigned(p.u64())
		return nil
	case frameSender:
		ch.acceptor.DomID = p.u32()
		return nil
	}
	return errProto("frame %d for a channel that this side has opened", kind)
}

// reassigned: what the program that has left can't have taken goes to the next one. [2.7]
func (ch *channel) reassigned(unsure uint64) {
	lost := failed(syscall.ECONNRESET)
	for m := ch.unsettled.head; m != nil && m.begin < unsure; m = ch.unsettled.head {
		m.unlink()
		m.settle(lost, nil)
	}
	for _, m := range ch.calls {
		if m.taken {
			m.settle(lost, nil)
		}
	}
	ch.in.current = nil // an answer that isn't whole
	ch.endIfDone()
}

func (ch *channel) takeReset(r reset) {
	if !ch.resetSent {
		ch.c.out = appendReset(ch.c.out, ch.number, r.errno, 0, ch.consumedHere(), ch.consumedHere())
	}
	wasReset := ch.resetSent
	ch.resetSent = true
	ch.forget()
	ch.leaveAddress()
	if !ch.isOurs {
		ch.drop()
	} else if !wasReset {
		if r.consumed <= ch.sent {
			ch.consumedUpTo(r.consumed)
		}
		ch.conclude(r)
	}
}

// conclude gives each message its outcome. [2.4]
func (ch *channel) conclude(r reset) {
	plain := failed(r.errno)
	if r.refused && ch.kind == kindMessage {
		plain = failed(syscall.ECANCELED)
	}
	plain.isRefusal = r.refused && ch.kind == kindCall && r.errno == syscall.ENOENT
	lost := failed(syscall.ECONNRESET)
	for m := ch.unsettled.head; m != nil; m = ch.unsettled.head {
		m.unlink()
		switch {
		case m.begin < r.unsure:
			m.settle(lost, nil)
		case m.begin == r.unsure && r.refused && ch.kind == kindMessage:
			m.settle(&Error{Errno: syscall.EREMOTEIO, Fate: NotDone, Code: int(r.errno)}, nil)
		default:
			m.settle(plain, nil)
		}
	}
	for m := ch.queue.head; m != nil; m = ch.queue.head {
		m.unlink()
		ch.concludeUnsent(m, plain)
	}
	for _, m := range ch.calls {
		m.settle(lost, nil)
	}
}

// concludeUnsent: nobody can have taken what wasn't sent to its end. Where only those before it are lost, what
// wasn't begun begins anew, and so is what was.
func (ch *channel) concludeUnsent(m *outgoing, err *Error) {
	if err.Errno == syscall.ECONNRESET && !m.isSettled {
		if m.moved < 3 {
			if next, _ := ch.c.channelTo(ch.key); next != nil {
				delete(ch.calls, m.number)
				m.moved++
				m.written = 0
				if next.kind == kindCall {
					next.number32(m)
				}
				next.push(m)
				return
			}
		}
		err = failed(syscall.ENOTCONN)
	}
	m.settle(err, nil)
}

// number32 gives a request its number. [2.3]
func (ch *channel) number32(m *outgoing) {
	if ch.calls == nil {
		ch.calls = map[uint32]*outgoing{}
	}
	ch.nextCall++
	m.number = ch.nextCall
	ch.calls[m.number] = m
}

// lose ends it with the daemon: what was handed to that may have been taken.
func (ch *channel) lose() {
	ch.resetSent = true
	if !ch.isOurs {
		ch.drop()
		return
	}
	lost, none := failed(syscall.ECONNRESET), failed(syscall.ENOTCONN)
	if ch.c.closed {
		none = failed(syscall.ECANCELED)
	}
	ch.settleAll(lost, none)
}

// settleAll gives what was begun its outcome, and what wasn't sent to its end.
func (ch *channel) settleAll(sent, unsent *Error) {
	ch.unsettled.settle(sent)
	ch.queue.settle(unsent)
	for _, m := range ch.calls {
		m.settle(sent, nil)
	}
}

// takeData of a channel of ours are answers, else messages and requests.
func (ch *channel) takeData(payload []byte) *Error {
	if len(payload)%8 != 0 || ch.finCame || ch.isOurs && ch.kind == kindMessage {
		return errProto("DATA of %d bytes where there can't be such", len(payload))
	}
	for len(payload) > 0 {
		rest, m, err := ch.in.next(payload)
		if err == nil && m != nil && m.state == stateSent {
			if ch.isOurs {
				err = ch.takeAnswer(m)
			} else {
				err = ch.takeMessage(m)
			}
			m.data = nil // the program's
		}
		if err != nil {
			ch.reset(err.Errno)
			return nil
		}
		payload = rest
	}
	if ch.isOurs {
		ch.credit(ch.in.current == nil)
	} else {
		ch.credit(len(ch.waiting) == 0 && ch.in.current == nil) // behind one that is skipped
	}
	ch.endIfDone()
	return nil
}

// reset ends a channel from here.
func (ch *channel) reset(errno syscall.Errno) {
	if ch.resetSent {
		return
	}
	flags := uint32(0)
	if ch.hasRefused {
		flags = refusedFlag
	}
	ch.resetFrom(errno, flags, ch.consumedHere())
}

// resetFrom ends it where what begins at `unsure` certainly isn't taken.
func (ch *channel) resetFrom(errno syscall.Errno, flags uint32, unsure uint64) {
	ch.c.out = appendReset(ch.c.out, ch.number, errno, flags, ch.consumedHere(), unsure)
	ch.resetSent = true
	if !ch.isOurs {
		ch.drop()
		return
	}
	ch.leaveAddress()
	spoilt := &Error{Errno: syscall.ECONNRESET, Reason: "the answers there break the protocol"}
	ch.settleAll(spoilt, spoilt)
}

// consumedHere is how far this program has taken the stream.
func (ch *channel) consumedHere() uint64 {
	if ch.reported > ch.taken {
		return ch.reported
	}
	return ch.taken
}

// credit tells how far the program has taken the stream: to the end of what it has taken, and beyond that within
// the next message where the rest of that doesn't come otherwise, and which can't be refused any more. [2.4, 4.2]
func (ch *channel) credit(now bool) {
	upto, current := ch.in.received, ch.in.current
	if len(ch.waiting) > 0 {
		upto = ch.waiting[0].begin
	} else if !ch.isOurs && current != nil && 16+padded(current.size) <= initialLimit {
		upto = current.begin
	}
	if ch.isOurs || len(ch.waiting) == 0 && ch.in.current == nil {
		ch.taken = ch.in.received
	}
	if upto > ch.reported && (now || upto-ch.reported >= 16384) && !ch.resetSent {
		c := ch.c
		// Nobody waits for that of a call: it goes with the answer, or the next request, if that is soon.
		isLazy := ch.kind == kindCall && upto-ch.reported < 16384 && len(c.out) == c.lazy
		ch.reported = upto
		if c.out = appendU64(c.out, frameCredit, ch.number, upto, 0); isLazy && !c.blocked {
			if c.lazy = len(c.out); !c.isLater {
				c.isLater = true
				time.AfterFunc(lazyFor, c.writeLazy)
			}
		}
	}
}

// takeAnswer of a call. [2.3, 2.5]
func (ch *channel) takeAnswer(m *incoming) *Error {
	if m.kind != typeReply && m.kind != typeError && m.kind != typeRefusal {
		return errProto("an answer of type %d", m.kind)
	}
	call := ch.calls[m.number]
	if call == nil {
		return nil // it was withdrawn
	}
	if call.written < call.total {
		return errProto("an answer to a request that wasn't sent")
	}
	if call.watch != nil && m.kind == typeReply && !(m.isPart && m.moreParts) {
		return errProto("the answer to a watch ends")
	}
	if m.isPart && m.kind == typeReply && !m.tooLarge {
		whole, err := call.takePart(m)
		if err != nil || !whole {
			return err
		}
		m.data = call.parts.Data
	}
	call.unlink()
	sender := ch.acceptor
	switch {
	case m.tooLarge:
		call.settle(&Error{Errno: syscall.EMSGSIZE}, nil)
	case m.kind == typeReply:
		call.settle(nil, &Message{Data: m.data, Sender: sender, Endpoint: sender.Endpoint, Trace: m.trace})
	case m.kind == typeRefusal:
		call.settle(&Error{Errno: errnoOf(uint32(m.code)), Fate: NotDone, isRefusal: true}, nil)
		ch.retire()
	default:
		call.settle(&Error{Errno: syscall.EREMOTEIO, Fate: Done, Code: int(m.code), Data: m.data, ExitStatus: int(m.exit)}, nil)
	}
	return nil
}

const partsMax = 256 << 20

func (m *outgoing) takePart(part *incoming) (whole bool, err *Error) {
	if m.watch != nil && (part.part == 0 || part.part == m.nextPart) && part.moreParts {
		m.nextPart = part.part + 1
		return false, m.watch.takeEvent(part.data)
	}
	if part.part == 0 {
		m.parts, m.nextPart = &Message{}, 0
	}
	if m.parts == nil || part.part != m.nextPart || len(m.parts.Data) > partsMax {
		return false, errProto("part %d of a reply, in place of %d", part.part, m.nextPart)
	}
	m.nextPart++
	m.parts.Data = append(m.parts.Data, part.data...)
	return !part.moreParts, nil
}
