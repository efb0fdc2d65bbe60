// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"container/list"
	"context"
	"syscall"
)

// EventKind says what is told of a domain, an endpoint or a host.
type EventKind int

const (
	DomainUp     EventKind = iota + 1 // the domain's daemon has appeared, its name has changed, or it is no longer away
	DomainDown                        // it has gone
	EndpointUp                        // an endpoint that this domain may reach has appeared
	EndpointDown                      // it has gone
	DomainAway                        // the link with the domain is lost for now, and what is under way there waits
	HostUp                            // another host can be asked
	HostDown                          // it can't any more: all that is there is reported as gone, too
	Listed                            // all that was there when the watch began was told; Name is "more" if there is more, and when that changes it is told anew
)

// String returns a kind in words.
func (k EventKind) String() string {
	if k < DomainUp || k > Listed {
		return "unknown"
	}
	return [...]string{"domain up", "domain down", "endpoint up", "endpoint down", "domain away", "host up", "host down", "listed"}[k-1]
}

// An Event is something that a [Watch] tells.
type Event struct {
	Kind   EventKind
	DomID  uint32
	Name   string // of the endpoint; "" of a domain
	Domain string // its name, "" if unknown
	Host   string // that the domain is on, "" for this one
}

// A Watch tells what comes and goes.
type Watch struct{ *binding }

const pendingMax = 65536

// Watch tells of domains and endpoints that come and go, and first of those that are there already. The pattern
// is DOMAIN (it and all of its endpoints) or DOMAIN:ENDPOINT, each may be a shell pattern: "*", "*:print"; with
// HOST/ before it of another host. Of several changes of one thing that Next hasn't told yet it tells the last.
func (c *Conn) Watch(ctx context.Context, pattern string) (*Watch, error) {
	if len("watch ")+len(pattern) > questionMax {
		return nil, invalid("watch", pattern)
	}
	b, err := c.bind(ctx, binding{name: pattern, op: "watch", takes: "watch"})
	if err != nil {
		return nil, err
	}
	return &Watch{b}, nil
}

// watchAgain makes the call, and waits for its first part.
func (b *binding) watchAgain(ctx context.Context) *Error {
	b.c.mu.Lock()
	defer b.c.mu.Unlock()
	if b.c.sock == nil || b.c.closed {
		return b.c.gone().about(b.op, b.name)
	}
	if b.err != nil { // it was closed meanwhile
		return b.err
	}
	ch, err := b.c.channelTo(outKey{"self:xenmsg", kindCall})
	if err != nil {
		return err.about(b.op, b.name)
	}
	call, begun := newOutgoing(typeRequest, nil, []byte("watch "+b.name)), make(chan struct{})
	b.call, b.begun, call.watch = call, begun, b
	b.told, b.isListed, b.isAgain = map[thing]*toldThing{}, false, false
	ch.number32(call)
	ch.push(call)
	b.c.flush()
	b.c.mu.Unlock()
	isOver := ctx.Done()
	for err == nil {
		select {
		case <-begun:
			b.c.mu.Lock()
			return nil
		case <-isOver:
			b.c.mu.Lock()
			call.cancel(ended(ctx, Unknown))
			b.c.mu.Unlock()
			isOver = nil
		case <-call.done:
			err = call.err
		}
	}
	b.c.mu.Lock()
	if call.cause == nil && isClosed(begun) { // it has ended since, or its daemon has: Next tells
		return nil
	}
	if err = err.ofDaemon(); err.Errno == syscall.ECONNRESET && err.context == nil {
		err = failed(syscall.ENOTCONN)
	}
	return err.about(b.op, b.name)
}

func isClosed(channel chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

// calledBack: no more comes of a call, which is made again when the daemon has gone. With the lock.
func (b *binding) calledBack(call *outgoing, err *Error) {
	if call == b.call && isClosed(b.begun) && b.c.sock != nil {
		b.end(err.ofDaemon())
	}
}

func (f *fields) event() (e Event) {
	e.Kind, e.DomID = EventKind(f.u32()), f.u32()
	e.Name, e.Domain, e.Host = f.text(), f.text(), f.text()
	if e.Kind != EndpointUp && e.Kind != EndpointDown && e.Kind != Listed {
		e.Name, e.Domain = "", e.Name
	}
	return e
}

// A thing is what events are about: a domain, an endpoint, a host, or the list of all of them.
type thing struct {
	domID          uint32
	name           string
	isHost, isList bool
}

func (e *Event) thing() thing {
	if e.Kind == Listed {
		return thing{isList: true}
	}
	return thing{domID: e.DomID, name: e.Name, isHost: e.Kind == HostUp || e.Kind == HostDown}
}

func (t thing) rank() int {
	switch {
	case t.isHost:
		return 2
	case t.name == "":
		return 1
	default:
		return 0
	}
}

// A toldThing is there, as far as a watch was told by this daemon and those that have handed over to it: of what
// the next one lists it is told only what differs.
type toldThing struct {
	Event
	isAway, wasAway bool // wasAway: as the watch was told
	isSeen          bool // also since the list began anew
}

// takeEvent takes a part of the answer, of which the first begins the list of what is there, also anew.
func (w *binding) takeEvent(part fields) *Error {
	if len(part) == 0 {
		w.isAgain = len(w.told) > 0
		for _, t := range w.told {
			t.isSeen = false
		}
		if !isClosed(w.begun) {
			close(w.begun)
			w.granted()
		}
		return nil
	}
	if len(part) < 8 {
		return errProto("an event of %d bytes", len(part))
	}
	if e := part.event(); w.err == nil && e.Kind == Listed {
		w.endList(e)
	} else if w.err == nil && e.Kind.String() != "unknown" {
		w.takeChange(e)
	}
	return nil
}

// takeChange tells the watch what it doesn't know already.
func (w *binding) takeChange(e Event) {
	t := w.told[e.thing()]
	isUp := e.Kind == DomainUp || e.Kind == EndpointUp || e.Kind == HostUp
	// A daemon that has just begun may not know the domain's name yet.
	isKnown := t != nil && (t.Domain == e.Domain || (e.Domain == "" && !t.isSeen))
	switch {
	case isUp && !isKnown:
		w.told[e.thing()] = &toldThing{Event: e, isSeen: true}
		w.tell(e)
	case t == nil:
	case isUp || e.Kind == DomainAway:
		t.isSeen, t.isAway = true, !isUp
		if !w.isAgain {
			w.tellAway(t)
		}
	default:
		delete(w.told, e.thing())
		w.tell(e)
	}
}

func (w *binding) tellAway(t *toldThing) {
	if t.isAway != t.wasAway {
		e := t.Event
		if t.isAway {
			e.Kind = DomainAway
		}
		t.wasAway = t.isAway
		w.tell(e)
	}
}

// endList: all that is there was listed, and the rest has gone, each thing behind all that it had.
func (w *binding) endList(listed Event) {
	w.isAgain = false
	for rank := 0; rank < 3; rank++ {
		for of, t := range w.told {
			switch {
			case of.rank() != rank:
			case t.isSeen:
				w.tellAway(t)
			default:
				t.Kind++ // from up to down
				delete(w.told, of)
				w.tell(t.Event)
			}
		}
	}
	if isCut := listed.Name != ""; !w.isListed || w.isCut != isCut {
		w.isCut = isCut
		w.tell(listed)
	}
	w.isListed = true
}

// tell lets Next return it, and nothing else of that thing.
func (w *binding) tell(e Event) {
	of := e.thing()
	if before := w.pending[of]; before != nil {
		w.events.Remove(before)
	} else if w.events.Len() >= pendingMax {
		w.end(failed(syscall.ENOBUFS))
		w.forget()
		return
	} else if w.pending == nil {
		w.pending = map[thing]*list.Element{}
	}
	w.pending[of] = w.events.PushBack(e)
	w.signal()
}

// Next returns the next event.
func (w *Watch) Next(ctx context.Context) (e Event, err error) {
	err = w.next(ctx, func() bool {
		first := w.events.Front()
		if first != nil {
			e = w.events.Remove(first).(Event)
			delete(w.pending, e.thing())
		}
		return first != nil
	})
	return e, err
}
