// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
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
type Watch struct{ *binding }

const pendingMax = 65536

// Watch tells of domains and endpoints that come and go, and first of those that are there already. The pattern
// is DOMAIN (it and all of its endpoints) or DOMAIN:ENDPOINT, each may be a shell pattern: "*", "*:print"; with
// HOST/ before it of another host. Of several changes of one thing that Next hasn't told yet it tells the last.
func (c *Conn) Watch(ctx context.Context, pattern string) (*Watch, error) {
	b, err := c.bind(ctx, binding{name: pattern, op: "watch", takes: "watch", ask: frameWatch, undo: frameUnwatch})
	if err != nil {
		return nil, err
	}
	return &Watch{b}, nil
}

// watchKey is none of a name.
func watchKey(number uint32) string { return string(le.AppendUint32([]byte{0}, number)) }

func (f *fields) event() (e Event) {
	e.Kind, e.DomID = EventKind(f.u32()), f.u32()
	if e.Kind == EndpointUp || e.Kind == EndpointDown || e.Kind == Listed {
		e.Name = f.text()
	}
	e.Domain, e.Host = f.text(), f.text()
	return e
}

func (c *Conn) takeEvent(number uint32, e Event) {
	w := c.bindings[watchKey(number)]
	if w == nil || e.Kind.String() == "unknown" {
		return
	}
	isEndpoint := e.Kind == EndpointUp || e.Kind == EndpointDown
	for i, p := range w.events {
		if p.DomID == e.DomID && p.Name == e.Name && p.Host == e.Host && (p.Kind == Listed) == (e.Kind == Listed) &&
			isEndpoint == (p.Kind == EndpointUp || p.Kind == EndpointDown) {
			w.events = append(w.events[:i], w.events[i+1:]...)
			break
		}
	}
	if len(w.events) >= pendingMax {
		w.end(&Error{Errno: syscall.ENOBUFS, Fate: NotDone})
		w.forget()
		return
	}
	w.events = append(w.events, e)
	w.signal()
}

// Next returns the next event.
func (w *Watch) Next(ctx context.Context) (e Event, err error) {
	err = w.next(ctx, func() bool {
		found := len(w.events) > 0
		if found {
			e = w.events[0]
			w.events = append(w.events[:0], w.events[1:]...)
		}
		return found
	})
	return e, err
}
