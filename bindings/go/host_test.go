// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
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
	t.Cleanup(func() {
		for end := time.Now().Add(patience); runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				stacks := make([]byte, 1<<16)
				t.Fatalf("goroutines are left:\n%s", stacks[:runtime.Stack(stacks, true)])
			}
		}
	})
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
		"error": {Code: 5, Data: []byte("unexpected EOF")}} {
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
	serve(t, other, "echo", nil, echo)
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
	serve(t, other, "slow", nil, func(ctx context.Context, m *xenmsg.Message) ([]byte, error) {
		<-ctx.Done()
		left <- ctx.Err()
		return nil, ctx.Err()
	})
	canceled, cancel = context.WithCancel(ctx)
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err = one.Call(canceled, "2:slow", nil)
	fails(t, err, context.Canceled, xenmsg.Unknown)
	if err := <-left; err != context.Canceled {
		t.Fatal("the server is told", err)
	}
	_, err = one.Call(canceled, "2:slow", nil)
	fails(t, err, context.Canceled, xenmsg.NotDone)
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
	took, err := one.Ping(ctx, "2")
	if err != nil || took <= 0 {
		t.Fatal(took, err)
	}
	_, err = one.Ping(ctx, "77")
	fails(t, err, syscall.EHOSTDOWN, xenmsg.NotDone)
}
