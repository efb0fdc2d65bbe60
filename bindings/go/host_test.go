// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"xenmsg"
)

// These tests need the daemons of two domains, whose sockets are $XENMSG_TEST_1 and $XENMSG_TEST_2:
// tests/integration/test_go.py has them.

const patience = 2 * time.Minute

func dial(t testing.TB, domain int, dialer xenmsg.Dialer) *xenmsg.Conn {
	t.Helper()
	if dialer.Socket = os.Getenv(fmt.Sprintf("XENMSG_TEST_%d", domain)); dialer.Socket == "" {
		t.Skip("there is no host")
	}
	conn, err := dialer.Dial(within(t, patience))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// two are connections in domains 1 and 2, which leave no goroutine.
func two(t testing.TB) (ctx context.Context, one, other *xenmsg.Conn) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() { xenmsg.NothingIsLeft(t, before, runtime.NumGoroutine) })
	return within(t, patience), dial(t, 1, xenmsg.Dialer{}), dial(t, 2, xenmsg.Dialer{})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails holds an error to what it should be.
func fails(t testing.TB, err, want error, fate xenmsg.Fate) {
	t.Helper()
	var own *xenmsg.Error
	if !errors.Is(err, want) || !errors.As(err, &own) || own.Fate != fate {
		t.Fatalf("%v, in place of %v (%v)", err, want, fate)
	}
}

// serve serves an endpoint until the test ends, and returns a function that ends it before.
func serve(t testing.TB, conn *xenmsg.Conn, name string, options *xenmsg.BindOptions, handler xenmsg.Handler) *xenmsg.Endpoint {
	t.Helper()
	e, err := conn.Bind(within(t, patience), name, options)
	must(t, err)
	served := make(chan struct{})
	go func() {
		defer close(served)
		e.Serve(handler)
	}()
	t.Cleanup(func() {
		e.Close()
		<-served
	})
	return e
}

func echo(_ context.Context, m *xenmsg.Message) ([]byte, error) { return m.Data, nil }

func TestMessagesOfAllSizesAreDeliveredInTheirOrder(t *testing.T) {
	ctx, one, other := two(t)
	inbox, err := other.Bind(ctx, "inbox", &xenmsg.BindOptions{OnlyMessages: true})
	must(t, err)
	sizes := []int{0, 1, 7, 8, 9, 65520, 65536, 1 << 20, one.MaxMessage(), 3}
	sent := make(chan error, 1)
	go func() {
		for i, size := range sizes {
			if err := one.Send(ctx, "2:inbox", bytes.Repeat([]byte{byte(i)}, size)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	for i, size := range sizes {
		m, err := inbox.Receive(ctx)
		must(t, err)
		if !bytes.Equal(m.Data, bytes.Repeat([]byte{byte(i)}, size)) || m.Endpoint != "inbox" || m.Sender.DomID != 1 {
			t.Fatalf("message %d has %d bytes of %v to %q", i, len(m.Data), m.Sender, m.Endpoint)
		}
	}
	must(t, <-sent)
	fails(t, one.Send(ctx, "2:inbox", make([]byte, one.MaxMessage()+1)), syscall.EMSGSIZE, xenmsg.NotDone)
	_, err = one.Call(ctx, "2:inbox", nil)
	fails(t, err, syscall.EPROTOTYPE, xenmsg.NotDone)
	must(t, inbox.Close())
	fails(t, one.Send(ctx, "2:inbox", nil), syscall.ENOENT, xenmsg.NotDone)
	fails(t, one.Send(ctx, "9:inbox", nil), syscall.EHOSTDOWN, xenmsg.NotDone)
	fails(t, one.Send(ctx, "inbox", nil), syscall.EINVAL, xenmsg.NotDone)
	_, err = inbox.Receive(ctx)
	fails(t, err, syscall.ECANCELED, xenmsg.NotDone)
}

func TestCallsAreAnsweredWithDataAndWithErrors(t *testing.T) {
	ctx, one, other := two(t)
	serve(t, other, "work", nil, func(ctx context.Context, m *xenmsg.Message) ([]byte, error) {
		switch string(m.Data) {
		case "answer":
			return nil, fmt.Errorf("wrapped: %w", xenmsg.Answer(77, []byte("no")))
		case "error":
			return nil, io.ErrUnexpectedEOF
		case "large":
			return nil, xenmsg.Answer(78, make([]byte, 17<<20))
		case "exit":
			m.ReplyExitStatus(3)
			return nil, nil
		case "deadline":
			deadline, ok := ctx.Deadline()
			return []byte(fmt.Sprintf("%v %s", ok && time.Until(deadline) > 0, m.Trace)), nil
		}
		return bytes.ToUpper(m.Data), nil
	})
	reply, err := one.Call(ctx, "2:work", []byte("hello"))
	must(t, err)
	if string(reply.Data) != "HELLO" || reply.Sender.DomID != 2 {
		t.Fatal(string(reply.Data), reply.Sender)
	}
	for words, want := range map[string]xenmsg.Error{"answer": {Code: 77, Data: []byte("no")}, "exit": {Code: 5, ExitStatus: 3},
		"error": {Code: 5, Data: []byte("unexpected EOF")}, "large": {Code: int(syscall.EMSGSIZE)}} {
		var own *xenmsg.Error
		_, err = one.Call(ctx, "2:work", []byte(words))
		fails(t, err, syscall.EREMOTEIO, xenmsg.Done)
		errors.As(err, &own)
		if own.Code != want.Code || own.ExitStatus != want.ExitStatus || !bytes.Equal(own.Data, want.Data) {
			t.Fatalf("%q: %+v", words, own)
		}
	}
	reply, err = one.Call(ctx, "2:work", []byte("deadline"), xenmsg.Trace("a-trace"))
	must(t, err)
	if string(reply.Data) != "true a-trace" {
		t.Fatalf("%q", reply.Data)
	}
	large := bytes.Repeat([]byte("x"), one.MaxMessage())
	reply, err = one.Call(ctx, "2:work", large)
	must(t, err)
	if len(reply.Data) != len(large) {
		t.Fatal(len(reply.Data))
	}
}

func TestManyGoroutinesCallAtATime(t *testing.T) {
	ctx, one, other := two(t)
	const workers = 3
	var now, most int32
	serve(t, other, "echo", &xenmsg.BindOptions{Workers: workers}, func(_ context.Context, m *xenmsg.Message) ([]byte, error) {
		handling := atomic.AddInt32(&now, 1)
		defer atomic.AddInt32(&now, -1)
		for handling < workers && atomic.LoadInt32(&most) < workers { // until all are at it
		}
		for before := atomic.LoadInt32(&most); before < handling && !atomic.CompareAndSwapInt32(&most, before, handling); {
			before = atomic.LoadInt32(&most)
		}
		return m.Data, nil
	})
	var callers sync.WaitGroup
	for i := 0; i < 50; i++ {
		callers.Add(1)
		go func(i int) {
			defer callers.Done()
			for j := 0; j < 20; j++ {
				data := bytes.Repeat([]byte{byte(i)}, i*j*7)
				if reply, err := one.Call(ctx, "2:echo", data); err != nil || !bytes.Equal(reply.Data, data) {
					t.Error(err)
				}
			}
		}(i)
	}
	callers.Wait()
	if most != workers {
		t.Fatal(most)
	}
}

func TestAContextThatEndsWithdraws(t *testing.T) {
	ctx, one, other := two(t)
	inbox, err := other.Bind(ctx, "busy", &xenmsg.BindOptions{OnlyMessages: true})
	must(t, err)
	large := make([]byte, 4<<20)
	for _, data := range [][]byte{nil, large} { // it waits there whole; half of it does
		fails(t, one.Send(within(t, 50*time.Millisecond), "2:busy", data), context.DeadlineExceeded, xenmsg.NotDone)
	}
	canceled, cancel := context.WithCancel(ctx)
	time.AfterFunc(20*time.Millisecond, cancel)
	fails(t, one.Send(canceled, "2:busy", large), context.Canceled, xenmsg.NotDone)
	go one.Send(ctx, "2:busy", []byte("last"))
	m, err := inbox.Receive(ctx)
	must(t, err)
	if string(m.Data) != "last" {
		t.Fatalf("what was withdrawn was delivered: %d bytes", len(m.Data))
	}
	left := make(chan error, 1)
	canceled, cancel = context.WithCancel(ctx)
	serve(t, other, "slow", nil, func(ctx context.Context, m *xenmsg.Message) ([]byte, error) {
		cancel()
		<-ctx.Done()
		left <- ctx.Err()
		return nil, ctx.Err()
	})
	_, err = one.Call(canceled, "2:slow", nil)
	fails(t, err, context.Canceled, xenmsg.Unknown)
	if err := <-left; err != context.Canceled {
		t.Fatal("the server is told", err)
	}
	_, err = one.Call(canceled, "2:slow", nil)
	fails(t, err, context.Canceled, xenmsg.NotDone)
}

// Whenever it is cancelled, what is said not to be done was seen by nobody, and what is done was seen once.
func TestACallIsCancelledAtEachMoment(t *testing.T) {
	ctx, one, other := two(t)
	var lock sync.Mutex
	seen := map[string]int{}
	serve(t, other, "moment", nil, func(_ context.Context, m *xenmsg.Message) ([]byte, error) {
		lock.Lock()
		defer lock.Unlock()
		seen[string(m.Data[:8])]++
		return m.Data, nil
	})
	_, err := one.Call(ctx, "2:moment", make([]byte, 8))
	must(t, err)
	fates := map[string]error{}
	for i := 1; i <= 600; i++ {
		brief, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Duration(i%200)*2*time.Microsecond, cancel)
		data := append([]byte(fmt.Sprintf("%08d", i)), make([]byte, i%3*100000)...) // also halfway
		if i%2 == 0 {
			_, fates[string(data[:8])] = one.Call(brief, "2:moment", data)
		} else {
			fates[string(data[:8])] = one.Send(brief, "2:moment", data)
		}
		cancel()
	}
	must(t, one.Send(ctx, "2:moment", make([]byte, 8))) // it has taken all before
	_, err = one.Call(ctx, "2:moment", make([]byte, 8))
	must(t, err)
	lock.Lock()
	defer lock.Unlock()
	counts := map[string]int{}
	for which, err := range fates {
		var own *xenmsg.Error
		switch errors.As(err, &own); {
		case err == nil && seen[which] != 1, own != nil && own.Fate == xenmsg.NotDone && seen[which] != 0, seen[which] > 1:
			t.Errorf("%s: %v, and was seen %d times", which, err, seen[which])
		case err == nil:
			counts["done"]++
		default:
			counts[own.Fate.String()]++
		}
	}
	if counts["done"] == 0 || counts[xenmsg.NotDone.String()] == 0 {
		t.Log(counts) // as slow as this machine is
	}
}

func TestWhatIsCancelledAtEachMomentCanBeBegunAgain(t *testing.T) {
	ctx, l, one := streams(t, "moments")
	go acceptAll(l, func(c net.Conn) { c.Close() })
	dialer := xenmsg.Dialer{Socket: os.Getenv("XENMSG_TEST_1")}
	for name, begin := range map[string]func(context.Context) (io.Closer, error){
		"Dial":      func(ctx context.Context) (io.Closer, error) { return dialer.Dial(ctx) },
		"Bind":      func(ctx context.Context) (io.Closer, error) { return one.Bind(ctx, "again", nil) },
		"Listen":    func(ctx context.Context) (io.Closer, error) { return one.Listen(ctx, "again", nil) },
		"BindTopic": func(ctx context.Context) (io.Closer, error) { return one.BindTopic(ctx, "again", nil) },
		"Subscribe": func(ctx context.Context) (io.Closer, error) { return one.Subscribe(ctx, "2:nothing", nil) },
		"Matching":  func(ctx context.Context) (io.Closer, error) { return one.SubscribeMatching(ctx, "*:n", nil) },
		"Watch":     func(ctx context.Context) (io.Closer, error) { return one.Watch(ctx, "*") },
		"Connect":   func(ctx context.Context) (io.Closer, error) { return one.Connect(ctx, "2:moments") },
	} {
		for i := 0; i < 200; i++ {
			brief, cancel := context.WithTimeout(ctx, time.Duration(i)*5*time.Microsecond)
			c, err := begin(brief)
			cancel()
			if err == nil {
				c.Close()
			} else if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%s %d: %v", name, i, err)
			}
		}
		c, err := begin(ctx)
		must(t, err)
		must(t, c.Close())
	}
}

func TestAMessageIsLookedAtBeforeItIsTaken(t *testing.T) {
	ctx, one, other := two(t)
	inbox, err := other.Bind(ctx, "looked", &xenmsg.BindOptions{OnlyMessages: true})
	must(t, err)
	sent := make(chan error, 9)
	send := func(ctx context.Context, size int) {
		go func() { sent <- one.Send(ctx, "2:looked", make([]byte, size)) }()
	}
	for _, size := range []int{0, 1000, 30000, 65520, 1 << 20} {
		send(ctx, size)
		m, err := inbox.Peek(ctx)
		must(t, err)
		if len(m.Data) != size || len(sent) > 0 {
			t.Fatal(len(m.Data), len(sent))
		}
		must(t, m.Take())
		must(t, <-sent)
		fails(t, m.Take(), syscall.ECANCELED, xenmsg.NotDone)
		send(ctx, size)
		m, err = inbox.Peek(ctx)
		must(t, err)
		fails(t, m.Refuse(4096), syscall.EINVAL, xenmsg.NotDone)
		must(t, m.Refuse(77))
		var own *xenmsg.Error
		if err := <-sent; size > 65520 {
			fails(t, err, syscall.ECONNRESET, xenmsg.Unknown)
		} else if fails(t, err, syscall.EREMOTEIO, xenmsg.NotDone); !errors.As(err, &own) || own.Code != 77 {
			t.Fatal(size, err)
		}
	}
	brief, cancel := context.WithCancel(ctx)
	send(brief, 1)
	m, err := inbox.Peek(ctx)
	must(t, err)
	cancel()
	fails(t, <-sent, context.Canceled, xenmsg.NotDone)
	fails(t, m.Take(), syscall.ECANCELED, xenmsg.NotDone)
	send(ctx, 2) // behind it the next one comes
	send(ctx, 2)
	m, err = inbox.Peek(ctx)
	must(t, err)
	_, err = inbox.Receive(within(t, 20*time.Millisecond))
	fails(t, err, context.DeadlineExceeded, xenmsg.NotDone)
	must(t, m.Take())
	_, err = inbox.Receive(ctx)
	must(t, err)
	must(t, <-sent)
	must(t, <-sent)
	both, err := other.Bind(ctx, "both", nil)
	must(t, err)
	_, err = both.Peek(ctx)
	fails(t, err, syscall.EPROTOTYPE, xenmsg.NotDone)
}

func TestAMessageIsHandedOverAtOnceOrNotAtAll(t *testing.T) {
	ctx, one, other := two(t)
	inbox, err := other.Bind(ctx, "now", &xenmsg.BindOptions{OnlyMessages: true})
	must(t, err)
	count := 0
	for err = nil; err == nil; count++ {
		data := make([]byte, 1000)
		err = one.Send(ctx, "2:now", data, xenmsg.AtOnce())
		data[0] = 1 // it was copied
	}
	fails(t, err, syscall.EAGAIN, xenmsg.NotDone)
	if count--; count < 60 {
		t.Fatal(count)
	}
	for ; count > 0; count-- {
		m, err := inbox.Receive(ctx)
		must(t, err)
		if len(m.Data) != 1000 || m.Data[0] != 0 {
			t.Fatal(m.Data[:1])
		}
	}
	fails(t, one.Send(ctx, "2:now", make([]byte, 65521), xenmsg.AtOnce()), syscall.EMSGSIZE, xenmsg.NotDone)
	_, err = one.Call(ctx, "2:now", nil, xenmsg.AtOnce())
	fails(t, err, syscall.EINVAL, xenmsg.NotDone)
	must(t, one.Send(ctx, "9:now", nil, xenmsg.AtOnce())) // nobody hears of its outcome
}

func TestADrainedEndpointAnswersWhatItHasTaken(t *testing.T) {
	ctx, one, other := two(t)
	begun, proceed := make(chan struct{}, 9), make(chan struct{})
	e := serve(t, other, "drain", &xenmsg.BindOptions{Workers: 1}, func(context.Context, *xenmsg.Message) ([]byte, error) {
		begun <- struct{}{}
		<-proceed
		return []byte("done"), nil
	})
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { _, err := one.Call(ctx, "2:drain", nil); first <- err }()
	<-begun
	go func() { _, err := one.Call(ctx, "2:drain", nil); second <- err }()
	drained := make(chan error, 1)
	go func() { drained <- e.Drain(ctx) }()
	fails(t, <-second, syscall.ENOENT, xenmsg.NotDone) // refused, or there is none any more
	close(proceed)
	must(t, <-first)
	must(t, <-drained)
}

func TestServeEndsWithItsContext(t *testing.T) {
	ctx, one, other := two(t)
	serving, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- other.Serve(serving, "brief", echo) }()
	_, err := one.Call(ctx, "2:brief", nil, xenmsg.Wait())
	must(t, err)
	stop()
	must(t, <-served)
	_, err = one.Call(ctx, "2:brief", nil)
	fails(t, err, syscall.ENOENT, xenmsg.NotDone)
}

func TestTheDaemonAnswersQuestions(t *testing.T) {
	ctx, one, _ := two(t)
	for _, question := range []string{"status all", "peers", "endpoints"} {
		text, err := one.Query(ctx, question)
		must(t, err)
		if !strings.ContainsAny(string(text[:1]), "[{") {
			t.Fatalf("%.80s", text)
		}
	}
	_, err := one.Query(ctx, "nonsense")
	fails(t, err, syscall.EINVAL, xenmsg.NotDone)
	long := strings.Repeat("x", 1<<17) // ends nothing else
	for _, begin := range []func() error{
		func() error { _, err := one.Query(ctx, long); return err },
		func() error { _, err := one.Watch(ctx, long); return err },
		func() error { _, err := one.Bind(ctx, long, nil); return err },
		func() error { _, err := one.Listen(ctx, long, nil); return err },
		func() error { _, err := one.BindTopic(ctx, long, nil); return err },
		func() error { _, err := one.Subscribe(ctx, "2:"+long, nil); return err },
		func() error { _, err := one.Connect(ctx, "2:"+long); return err },
		func() error { return one.Send(ctx, "2:"+long, nil) },
	} {
		fails(t, begin(), syscall.EINVAL, xenmsg.NotDone)
	}
	took, err := one.Ping(ctx, "2")
	if err != nil || took <= 0 {
		t.Fatal(took, err)
	}
	_, err = one.Ping(ctx, "77")
	fails(t, err, syscall.EHOSTDOWN, xenmsg.NotDone)
}

func TestATopicBringsWhatIsPublishedAndSaysWhatIsMissing(t *testing.T) {
	ctx, one, other := two(t)
	s, err := one.Subscribe(ctx, "2:news", nil)
	must(t, err)
	next := func(s *xenmsg.Subscription) string {
		m, notice, err := s.Next(ctx)
		must(t, err)
		if notice != nil {
			return fmt.Sprint(notice.Kind, " ", notice.Count)
		}
		return m.Key + "=" + string(m.Data)
	}
	expect := func(s *xenmsg.Subscription, all ...string) {
		t.Helper()
		for _, want := range all {
			if got := next(s); got != want {
				t.Fatalf("%q, in place of %q", got, want)
			}
		}
	}
	expect(s, "waiting 0")
	topic, err := other.BindTopic(ctx, "news", &xenmsg.TopicOptions{Retain: true, Keys: 8})
	must(t, err)
	expect(s, "subscribed 0")
	for i := 1; i <= 3; i++ {
		must(t, topic.Publish(ctx, []byte{'0' + byte(i)}, xenmsg.Key("k")))
	}
	expect(s, "k=1", "k=2", "k=3")
	late, err := other.Subscribe(ctx, "self:news", &xenmsg.SubscribeOptions{Queue: 4})
	must(t, err)
	expect(late, "subscribed 3", "kept 0", "k=3")
	_, err = one.Subscribe(ctx, "2:news", nil)
	fails(t, err, syscall.EEXIST, xenmsg.NotDone)
	for i := 0; i < 100; i++ {
		must(t, other.Publish(ctx, "news", make([]byte, 1024)))
	}
	missed := uint64(0)
	for seen := uint64(0); seen+missed < 100; {
		_, notice, err := late.Next(ctx)
		must(t, err)
		if notice == nil {
			seen++
		} else if notice.Kind == xenmsg.Missed {
			missed += notice.Count
		} else {
			t.Fatal(notice)
		}
	}
	must(t, topic.Close())
	for got := ""; got != "waiting 0"; got = next(s) {
	}
	must(t, s.Close())
	_, _, err = s.Next(ctx)
	fails(t, err, syscall.ECANCELED, xenmsg.NotDone)
}

func TestAPatternSubscribesToAllTopicsThatItMeans(t *testing.T) {
	ctx, one, other := two(t)
	serve(t, other, "feed-none", nil, echo)
	first, err := other.BindTopic(ctx, "feed-a", &xenmsg.TopicOptions{Retain: true})
	must(t, err)
	must(t, first.Publish(ctx, []byte("a")))
	all, err := one.SubscribeMatching(ctx, "*:feed-*", nil)
	must(t, err)
	defer all.Close()
	next := func(address, data string) {
		t.Helper()
		for {
			came, err := all.Next(ctx)
			must(t, err)
			if came.Message == nil {
				continue
			}
			if came.Address != address || string(came.Message.Data) != data {
				t.Fatalf("%q of %s, in place of %q", came.Message.Data, came.Address, data)
			}
			return
		}
	}
	next("2:feed-a", "a")
	mine, err := one.BindTopic(ctx, "feed-b", &xenmsg.TopicOptions{Retain: true})
	must(t, err)
	must(t, mine.Publish(ctx, []byte("b")))
	next("1:feed-b", "b")
	must(t, first.Close())
	for came := (xenmsg.Matched{}); came.Notice == nil || came.Notice.Kind != xenmsg.Waiting; {
		came, err = all.Next(ctx)
		must(t, err)
	}
	again, err := other.BindTopic(ctx, "feed-a", &xenmsg.TopicOptions{Retain: true})
	must(t, err)
	must(t, again.Publish(ctx, []byte("again")))
	next("2:feed-a", "again")
	must(t, all.Close())
	_, err = all.Next(ctx)
	fails(t, err, syscall.ECANCELED, xenmsg.NotDone)
	_, err = one.SubscribeMatching(ctx, "no address", nil)
	fails(t, err, syscall.EINVAL, xenmsg.NotDone)
}

func TestAWatchTellsWhatComesAndGoes(t *testing.T) {
	ctx, one, other := two(t)
	w, err := one.Watch(ctx, "2:seen*")
	must(t, err)
	until := func(kind xenmsg.EventKind, name string) {
		t.Helper()
		for {
			e, err := w.Next(ctx)
			must(t, err)
			if e.Kind == kind && e.Name == name {
				return
			}
		}
	}
	until(xenmsg.Listed, "")
	e, err := other.Bind(ctx, "seen1", nil)
	must(t, err)
	until(xenmsg.EndpointUp, "seen1")
	must(t, e.Close())
	until(xenmsg.EndpointDown, "seen1")
	must(t, w.Close())
	_, err = w.Next(ctx)
	fails(t, err, syscall.ECANCELED, xenmsg.NotDone)
	_, err = one.Watch(ctx, "")
	fails(t, err, syscall.EINVAL, xenmsg.NotDone)
}

// streams are a listener in domain 2, and how to connect to it from domain 1.
func streams(t testing.TB, name string) (context.Context, *xenmsg.Listener, *xenmsg.Conn) {
	ctx, one, other := two(t)
	l, err := other.Listen(ctx, name, nil)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	return ctx, l, one
}

func acceptAll(l net.Listener, serve func(net.Conn)) {
	for c, err := l.Accept(); err == nil; c, err = l.Accept() {
		go serve(c)
	}
}

func TestAStreamIsANetConn(t *testing.T) {
	ctx, l, one := streams(t, "stream")
	served := make(chan error, 1)
	go func() {
		c, err := l.AcceptStream(ctx)
		if err == nil {
			defer c.Close()
			_, err = io.Copy(c, c)
		}
		served <- err
	}()
	c, err := one.Connect(ctx, "2:stream")
	must(t, err)
	defer c.Close()
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	go func() {
		c.ReadFrom(bytes.NewReader(data))
		c.CloseWrite()
	}()
	var got bytes.Buffer
	if _, err := c.WriteTo(&got); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Fatal(got.Len(), err)
	}
	must(t, <-served)

	broken, err := one.Connect(ctx, "2:stream")
	must(t, err)
	accepted, err := l.AcceptStream(ctx)
	must(t, err)
	defer accepted.Close()
	if accepted.Peer().DomID != 1 {
		t.Fatal(accepted.Peer())
	}
	accepted.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	accepted.SetReadDeadline(time.Time{})
	broken.Write([]byte("x"))
	must(t, broken.Break())
	if n, err := io.ReadFull(accepted, make([]byte, 2)); n != 1 || !errors.Is(err, syscall.ECONNRESET) ||
		!strings.Contains(err.Error(), "the program there has broken it off") {
		t.Fatal(n, err)
	}
	if why := accepted.BreakReason(); why != "the stream broke: the program there has broken it off" {
		t.Fatal(why)
	}
	_, err = one.Connect(ctx, "2:nothing")
	fails(t, err, syscall.ENOENT, xenmsg.NotDone)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = one.Connect(canceled, "2:stream")
	fails(t, err, context.Canceled, xenmsg.NotDone)
	must(t, l.Close())
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
}

// fewDescriptors takes all that are left but so many, until the function that it returns is called.
func fewDescriptors(t testing.TB, left int) (giveBack func()) {
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	few := limit
	few.Cur = 200
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	var taken []int
	for {
		fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		taken = append(taken, fd)
	}
	for ; left > 0; left-- {
		syscall.Close(taken[0])
		taken = taken[1:]
	}
	return func() {
		for _, fd := range taken {
			syscall.Close(fd)
		}
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	}
}

func TestNoStreamIsLostForWantOfADescriptor(t *testing.T) {
	ctx, l, one := streams(t, "few")
	for left := 0; left < 6; left++ {
		giveBack := fewDescriptors(t, left)
		c, err := one.Connect(ctx, "2:few") // there is one for both sides, or for neither
		giveBack()
		if err != nil {
			fails(t, err, syscall.EMFILE, xenmsg.NotDone)
			c, err = one.Connect(ctx, "2:few")
			must(t, err)
		}
		_, err = c.Write([]byte{byte(left)})
		must(t, err)
		giveBack = fewDescriptors(t, left)
		accepted, err := l.AcceptStream(ctx)
		giveBack()
		if err != nil {
			fails(t, err, syscall.EMFILE, xenmsg.NotDone)
			accepted, err = l.AcceptStream(ctx)
			must(t, err)
		}
		got := []byte{0xff}
		if _, err := accepted.Read(got); err != nil || int(got[0]) != left {
			t.Fatalf("with %d descriptors left: %v, %v", left, got, err)
		}
		giveBack = fewDescriptors(t, 0)
		err = c.Break()
		giveBack()
		must(t, err)
		if _, err := accepted.Read(got); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		accepted.Close()
	}
}

func TestHTTPAndTLSRunOverStreams(t *testing.T) {
	ctx, l, one := streams(t, "web")
	plain := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %d", r.URL.Path, len(body))
	}))
	plain.Listener.Close()
	plain.Listener = l
	plain.EnableHTTP2 = true
	plain.StartTLS()
	defer plain.Close()
	client := plain.Client()
	transport := client.Transport.(*http.Transport)
	transport.DialContext = one.ConnectFunc("2:web")
	defer transport.CloseIdleConnections()
	for i := 1; i <= 5; i++ {
		request, err := http.NewRequestWithContext(ctx, "POST", "https://example.com/path", bytes.NewReader(make([]byte, i*100000)))
		must(t, err)
		response, err := client.Do(request)
		must(t, err)
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if want := fmt.Sprintf("/path %d", i*100000); err != nil || string(body) != want || response.ProtoMajor != 2 {
			t.Fatalf("%q, %v, %s", body, err, response.Proto)
		}
	}
}

// A driver of database/sql whose connections are streams: each statement is a line, each row too.
type lines struct{ connect func() (net.Conn, error) }

func (d lines) Connect(context.Context) (driver.Conn, error) {
	c, err := d.connect()
	return &lineConn{c, bufio.NewReader(c)}, err
}
func (d lines) Driver() driver.Driver { return nil }

type lineConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *lineConn) Prepare(query string) (driver.Stmt, error) { return &lineStmt{c, query}, nil }
func (c *lineConn) Begin() (driver.Tx, error)                 { return nil, driver.ErrSkip }

type lineStmt struct {
	c     *lineConn
	query string
}

func (s *lineStmt) Close() error                               { return nil }
func (s *lineStmt) NumInput() int                              { return 0 }
func (s *lineStmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }
func (s *lineStmt) Query([]driver.Value) (driver.Rows, error) {
	_, err := fmt.Fprintln(s.c, s.query)
	return &lineRows{c: s.c}, err
}

type lineRows struct {
	c    *lineConn
	done bool
}

func (r *lineRows) Columns() []string { return []string{"word"} }
func (r *lineRows) Close() error      { return nil }
func (r *lineRows) Next(row []driver.Value) error {
	if r.done {
		return io.EOF
	}
	text, err := r.c.in.ReadString('\n')
	row[0], r.done = strings.TrimSpace(text), true
	return err
}

func TestAPoolOfDatabaseSQLRunsOverStreams(t *testing.T) {
	ctx, l, one := streams(t, "db")
	go acceptAll(l, func(c net.Conn) {
		io.Copy(c, c)
		c.Close()
	})
	db := sql.OpenDB(lines{func() (net.Conn, error) { return one.Connect(ctx, "2:db") }})
	defer db.Close()
	var asking sync.WaitGroup
	for i := 0; i < 20; i++ {
		asking.Add(1)
		go func(want string) {
			defer asking.Done()
			var got string
			if err := db.QueryRowContext(ctx, want).Scan(&got); err != nil || got != want {
				t.Error(got, err)
			}
		}(fmt.Sprint("row", i))
	}
	asking.Wait()
}

// A daemon that is killed meanwhile: test_go.py kills it where it reads "kill", and starts it again.
func TestAConnectionOutlivesItsDaemon(t *testing.T) {
	if os.Getenv("XENMSG_TEST_KILLS") == "" {
		t.Skip("nobody kills daemons here")
	}
	changes := make(chan xenmsg.Change, 100)
	ctx := within(t, patience)
	one := dial(t, 1, xenmsg.Dialer{Reconnect: true, OnChange: func(c xenmsg.Change) { changes <- c }})
	serve(t, one, "here", nil, echo)
	s, err := one.Subscribe(ctx, "self:nobody", nil)
	must(t, err)
	l, err := one.Listen(ctx, "stream", nil)
	must(t, err)
	hasLost := make(chan xenmsg.Change, 1)
	plain := dial(t, 1, xenmsg.Dialer{OnChange: func(c xenmsg.Change) { hasLost <- c }})
	_, err = plain.Call(ctx, "self:here", nil)
	must(t, err)
	begun := make(chan struct{})
	silent := serve(t, plain, "silent", nil, func(ctx context.Context, _ *xenmsg.Message) ([]byte, error) {
		close(begun)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	lost := make(chan error, 1)
	go func() { _, err := one.Call(ctx, "self:silent", nil); lost <- err }()
	<-begun
	fmt.Println("kill")
	fails(t, <-lost, syscall.ECONNRESET, xenmsg.Unknown)
	_, err = silent.Receive(ctx)
	fails(t, err, syscall.ENOTCONN, xenmsg.NotDone)
	fails(t, plain.Send(ctx, "self:here", nil), syscall.ENOTCONN, xenmsg.NotDone)
	if change := <-hasLost; change.Kind != xenmsg.Lost || change.Err == nil {
		t.Fatal(change)
	}
	reply, err := one.Call(ctx, "self:here", []byte("again"), xenmsg.Wait()) // waits for the next daemon
	must(t, err)
	if string(reply.Data) != "again" {
		t.Fatal(reply.Data)
	}
	for kinds := ""; /* Lost, Back */ !strings.Contains(kinds, "12"); {
		select {
		case change := <-changes:
			kinds += fmt.Sprint(change.Kind)
		case <-ctx.Done():
			t.Fatal(kinds)
		}
	}
	_, notice, err := s.Next(ctx)
	if err != nil || notice.Kind != xenmsg.Waiting {
		t.Fatal(notice, err)
	}
	c, err := one.Connect(ctx, "self:stream")
	must(t, err)
	accepted, err := l.Accept()
	must(t, err)
	c.Close()
	accepted.Close()
}

func TestWhatAMessageCosts(t *testing.T) {
	ctx, one, other := two(t)
	serve(t, other, "cost", nil, echo)
	data := make([]byte, 100)
	if allocations := testing.AllocsPerRun(200, func() { one.Call(ctx, "2:cost", data) }); allocations > 10 {
		t.Error("a call and its answer take", allocations)
	}
	if allocations := testing.AllocsPerRun(200, func() { one.Send(ctx, "2:cost", data) }); allocations > 5 {
		t.Error("a message takes", allocations)
	}
}

func BenchmarkCall(b *testing.B) {
	_, one, other := two(b)
	serve(b, other, "echo", nil, echo)
	b.ReportAllocs()
	for i := 0; i < b.N; i++ {
		if _, err := one.Call(context.Background(), "2:echo", []byte("hello")); err != nil {
			b.Fatal(err)
		}
	}
}
