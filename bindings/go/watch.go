// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
	"errors"
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
	Listed                            // all that was there when the watch began was told; Name is "more" if a host has more
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
type Watch struct {
	c       *Conn
	pattern string
	number  uint32 // of its request
	isBound bool
	pending []Event // one of each domain, endpoint and host
	wake    chan struct{}
	over    chan struct{}
	err     *Error
}

const pendingMax = 65536

// Watch tells of domains and endpoints that come and go, and first of those that are there already. The pattern
// is DOMAIN (it and all of its endpoints) or DOMAIN:ENDPOINT, each may be a shell pattern: "*", "*:print"; with
// HOST/ before it of another host. Of several changes of one thing that Next hasn't told yet it tells the last.
func (c *Conn) Watch(ctx context.Context, pattern string) (*Watch, error) {
	w := &Watch{c: c, pattern: pattern, wake: make(chan struct{}, 1), over: make(chan struct{})}
	for {
		c.mu.Lock()
		err := c.await(ctx)
		c.mu.Unlock()
		if err != nil {
			return nil, err.about("watch", pattern)
		}
		failure := w.bindAgain(ctx)
		if failure == nil {
			return w, nil
		}
		if !errors.Is(failure, syscall.ENOTCONN) || !c.outlives() {
			return nil, failure
		}
	}
}

func (w *Watch) bindAgain(ctx context.Context) error {
	_, err := w.c.requestAs(ctx, "watch", w.pattern, frameWatch, []byte(w.pattern), func(number uint32) {
		delete(w.c.watches, w.number)
		w.number, w.c.watches[number] = number, w
	}, w.forget)
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if w.isBound = w.isBound || err == nil; !w.isBound {
		delete(w.c.watches, w.number)
	}
	return err
}

// forget ends it at the daemon. With the lock.
func (w *Watch) forget() {
	delete(w.c.watches, w.number)
	w.c.tellDaemon(frameUnwatch, string(le.AppendUint32(nil, w.number)))
}

func (w *Watch) end(err *Error) {
	if w.err == nil {
		w.err = err
		close(w.over)
		delete(w.c.watches, w.number)
	}
}

func decodeEvent(payload []byte) (e Event, err error) {
	f := fields{rest: payload}
	e.Kind, e.DomID = EventKind(f.u32()), f.u32()
	if e.Kind == EndpointUp || e.Kind == EndpointDown || e.Kind == Listed {
		e.Name = f.text()
	}
	e.Domain, e.Host = f.text(), f.text()
	return e, f.err("EVENT")
}

func (c *Conn) takeEvent(f frame) error {
	e, err := decodeEvent(f.payload)
	w := c.watches[f.channel]
	if err != nil || w == nil || e.Kind.String() == "unknown" {
		return err
	}
	isEndpoint := e.Kind == EndpointUp || e.Kind == EndpointDown
	for i := range w.pending {
		p := &w.pending[i]
		if p.DomID == e.DomID && p.Name == e.Name && p.Host == e.Host && (p.Kind == Listed) == (e.Kind == Listed) &&
			isEndpoint == (p.Kind == EndpointUp || p.Kind == EndpointDown) {
			w.pending = append(w.pending[:i], w.pending[i+1:]...)
			break
		}
	}
	if len(w.pending) >= pendingMax {
		w.end(&Error{Op: "watch", Address: w.pattern, Errno: syscall.ENOBUFS, Fate: NotDone})
		w.forget()
		return nil
	}
	w.pending = append(w.pending, e)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	return nil
}

// Next returns the next event.
func (w *Watch) Next(ctx context.Context) (Event, error) {
	for {
		w.c.mu.Lock()
		if len(w.pending) > 0 {
			e := w.pending[0]
			w.pending = append(w.pending[:0], w.pending[1:]...)
			w.c.mu.Unlock()
			return e, nil
		}
		err := w.err
		w.c.mu.Unlock()
		if err != nil {
			return Event{}, err.about("watch", w.pattern)
		}
		select {
		case <-w.wake:
		case <-w.over:
		case <-ctx.Done():
			return Event{}, ended(ctx, NotDone).about("watch", w.pattern)
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() error {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	if w.err == nil {
		w.forget()
		w.end(&Error{Op: "watch", Address: w.pattern, Errno: syscall.ECANCELED, Fate: NotDone})
	}
	return nil
}
