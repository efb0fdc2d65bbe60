// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
)

// TopicOptions say how a topic is to be.
type TopicOptions struct {
	// Retain keeps the last message for later subscribers, who get it first, behind the notice Kept; of each
	// Key, if Keys isn't 0, of so many keys, up to 4095. An empty message with a key has that of its key
	// forgotten.
	Retain bool
	Keys   int
	// CountListeners lets Dialer.OnChange be told how many subscribe, when that changes.
	CountListeners bool
}

// A Topic is an endpoint of this program's to which others subscribe.
type Topic struct{ *binding }

// BindTopic makes a topic, which exists until its Close or the connection's.
func (c *Conn) BindTopic(ctx context.Context, name string, options *TopicOptions) (*Topic, error) {
	kinds := uint32(1 << 3)
	if options != nil {
		if options.Keys < 0 || options.Keys > 4095 || options.Keys > 0 && !options.Retain {
			return nil, invalid("bind", name)
		}
		if options.Retain {
			kinds |= 1<<29 | uint32(options.Keys)<<8
		}
		if options.CountListeners {
			kinds |= 1 << 28
		}
	}
	b, err := c.bindKinds(ctx, "bind", "receive", name, kinds)
	if err != nil {
		return nil, err
	}
	return &Topic{b}, nil
}

// Publish sends a message to all subscribers, and waits for none of them: it returns when the daemon has it.
func (t *Topic) Publish(ctx context.Context, data []byte, options ...Option) error {
	return t.c.Publish(ctx, t.name, data, options...)
}

// NoticeKind says what a subscriber is told.
type NoticeKind int

const (
	// Subscribed: from here on everything comes, or is told to be missing. Count messages were published
	// before; Unknown: the subscriber was subscribed before, and may have missed some.
	Subscribed NoticeKind = iota + 1
	// Missed: Count messages are missing here; Unknown: and perhaps more.
	Missed
	// Waiting: the topic has gone, or isn't there yet; Unknown: it, or the way to it, was lost, with it perhaps
	// messages that were published last.
	Waiting
	// Ended: the subscription has ended, with Err.
	Ended
	// Kept: the next message was published before; the topic has kept it.
	Kept
)

// String returns a kind in a word.
func (k NoticeKind) String() string {
	if k < Subscribed || k > Kept {
		return "unknown"
	}
	return [...]string{"subscribed", "missed", "waiting", "ended", "kept"}[k-1]
}

// A Notice is what a subscriber is told between the messages of a topic, by the daemons: no publisher can say
// it. One of a Kind that isn't known means nothing.
type Notice struct {
	Kind    NoticeKind
	Unknown bool
	Count   uint64
	Err     error
}

// SubscribeOptions bound a subscription.
type SubscribeOptions struct {
	// Queue is how many of the topic's messages may wait at a time, up to 65535; beyond that the oldest are
	// lost, or the newest with KeepOldest. 0: as many as the daemon has room for.
	Queue      int
	KeepOldest bool
}

// A Subscription is what a topic brings.
type Subscription struct{ *binding }

// Subscribe subscribes to a topic, DOMAIN:ENDPOINT, which may come, go and come again: notices tell of that,
// each in its place. Nothing is lost without one, and nothing comes twice or in another order but what a topic
// has kept.
func (c *Conn) Subscribe(ctx context.Context, address string, options *SubscribeOptions) (*Subscription, error) {
	_, _, valid := cutAddress(address)
	flags := uint32(0)
	if options != nil {
		valid = valid && options.Queue >= 0 && options.Queue <= 65535
		flags = uint32(options.Queue) << 8
		if options.KeepOldest {
			flags |= 2
		}
	}
	if !valid {
		return nil, invalid("subscribe", address)
	}
	b, err := c.bind(ctx, binding{name: address, op: "subscribe", takes: "receive", ask: frameSubscribe,
		undo: frameUnbind, word: flags})
	if err != nil {
		return nil, err
	}
	return &Subscription{b}, nil
}

// Next returns the next message or the next notice; the other one is nil.
func (s *Subscription) Next(ctx context.Context) (*Message, *Notice, error) {
	m, err := s.receive(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	if m.notice != nil {
		return nil, m.notice, nil
	}
	return m, nil, nil
}
