// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A Matched is a message or a notice of one of the topics that a [Matching] has; the other one is nil.
type Matched struct {
	Address string // of the topic: [HOST/]DOMID:ENDPOINT
	Message *Message
	Notice  *Notice
}

// A Matching is what all topics bring that a pattern means.
type Matching struct {
	c       *Conn
	options *SubscribeOptions
	watch   *Watch
	ctx     context.Context
	cancel  context.CancelFunc
	came    chan Matched // nobody takes more than the program does
	running sync.WaitGroup
	mu      sync.Mutex
	topics  map[string]*matchedTopic
	err     error
}

// A matchedTopic is one of them, or an endpoint that is none.
type matchedTopic struct {
	sub       *Subscription
	isGone    bool // as the watch tells: once its last message has come, it is forgotten
	isWaiting bool
	isNone    bool // the endpoint isn't a topic
}

// SubscribeMatching subscribes to each topic that a pattern as of Watch means, "*:news", as it appears, and
// leaves it when it has gone; each has the options. One that this program may not have yet, or for which there
// is no room, is tried again.
func (c *Conn) SubscribeMatching(ctx context.Context, pattern string, options *SubscribeOptions) (*Matching, error) {
	if _, _, valid := cutAddress(pattern); !valid {
		return nil, invalid("subscribe", pattern)
	}
	watch, err := c.Watch(ctx, pattern)
	if err != nil {
		return nil, err
	}
	m := &Matching{c: c, options: options, watch: watch, came: make(chan Matched), topics: map[string]*matchedTopic{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.running.Add(1)
	go m.follow()
	return m, nil
}

// follow learns which topics there are, until the watch ends.
func (m *Matching) follow() {
	defer m.running.Done()
	for {
		e, err := m.watch.Next(m.ctx)
		if err != nil {
			m.err = err
			m.cancel()
			return
		}
		address := strconv.FormatUint(uint64(e.DomID), 10) + ":" + e.Name
		if e.Host != "" {
			address = e.Host + "/" + address
		}
		m.mu.Lock()
		topic := m.topics[address]
		switch {
		case e.Kind == EndpointUp && topic == nil:
			topic = &matchedTopic{}
			m.topics[address] = topic
			m.running.Add(1)
			go m.have(address, topic)
		case e.Kind == EndpointUp:
			topic.isGone = false
		case e.Kind == EndpointDown && topic != nil:
			topic.isGone = true
			if topic.isWaiting {
				topic.sub.Close()
			} else if topic.isNone {
				delete(m.topics, address)
			}
		}
		m.mu.Unlock()
	}
}

// have passes on what a topic brings, and subscribes to it again where that has ended.
func (m *Matching) have(address string, topic *matchedTopic) {
	defer m.running.Done()
	for pause := 100 * time.Millisecond; ; sleep(m.ctx, &pause, 10*time.Second) {
		m.mu.Lock()
		isOver := topic.isGone || m.ctx.Err() != nil
		if isOver {
			delete(m.topics, address)
		}
		m.mu.Unlock()
		if isOver {
			return
		}
		sub, err := m.c.Subscribe(m.ctx, address, m.options)
		if err == nil {
			pause = 100 * time.Millisecond
			m.passOn(address, topic, sub)
		} else if errors.Is(err, syscall.EPROTOTYPE) {
			m.mu.Lock()
			topic.isNone = true
			if topic.isGone {
				delete(m.topics, address)
			}
			m.mu.Unlock()
			return
		}
	}
}

func (m *Matching) passOn(address string, topic *matchedTopic, sub *Subscription) {
	defer sub.Close()
	for {
		message, notice, err := sub.Next(m.ctx)
		if err != nil {
			return
		}
		select {
		case m.came <- Matched{address, message, notice}:
		case <-m.ctx.Done():
			return
		}
		m.mu.Lock()
		topic.sub, topic.isWaiting = sub, notice != nil && notice.Kind == Waiting
		isOver := topic.isWaiting && topic.isGone || notice != nil && notice.Kind == Ended
		m.mu.Unlock()
		if isOver {
			return
		}
	}
}

// Next returns what one of the topics has brought: of each all, in its order.
func (m *Matching) Next(ctx context.Context) (Matched, error) {
	select {
	case matched := <-m.came:
		return matched, nil
	case <-m.ctx.Done():
		m.running.Wait()
		return Matched{}, m.err
	case <-ctx.Done():
		return Matched{}, ended(ctx, NotDone).about("receive", m.watch.name)
	}
}

// Close ends all of its subscriptions.
func (m *Matching) Close() error {
	m.watch.Close()
	m.running.Wait()
	return nil
}
