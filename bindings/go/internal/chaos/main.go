// SPDX-License-Identifier: LGPL-2.1-or-later

// Command chaos is tests/integration/chaos_program.c in Go: a program of the chaos test, with the same arguments,
// journal, messages and streams, which chaos_checks.py holds against what is promised.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"xenmsg"
)

// The records of chaos.h.
const (
	started, ended, received, fault, finished, process                   = 1, 2, 3, 4, 5, 7
	callStarted, callEnded, callAnswered, callMaybe, handled, replying   = 10, 11, 12, 13, 14, 15
	connecting, connected, accepted, nameless, offered, written, closing = 20, 21, 22, 23, 24, 25, 26
	readUpto, readEnd, damaged                                           = 27, 28, 29
	backwards                                                            = 1 << 63
	largest, streamsMax, inFlightMax, piece                              = 1 << 20, 16, 16, 32 << 10
	stalled                                                              = 20 * time.Second
)

var (
	journal *os.File
	random  = struct {
		sync.Mutex
		state uint64
	}{}
	lastNumber  uint64
	lastOutcome int64 // in ns
	inFlight    int64
	streamsOpen = make(chan struct{}, streamsMax)
	working     sync.WaitGroup // streams
	open        sync.Map       // *xenmsg.Stream
	quitting    int32
	stopping    context.Context
)

func note(kind uint32, number uint64, value int) {
	var record [16]byte
	binary.LittleEndian.PutUint64(record[:], number)
	binary.LittleEndian.PutUint32(record[8:], kind)
	binary.LittleEndian.PutUint32(record[12:], uint32(int32(value)))
	if _, err := journal.Write(record[:]); err != nil {
		panic(err)
	}
}

func next(state *uint64) uint64 { // splitmix64
	*state += 0x9e3779b97f4a7c15
	z := *state
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

func dice(bound int) int {
	random.Lock()
	defer random.Unlock()
	return int(next(&random.state) % uint64(bound))
}

func errnoOf(err error) int {
	var errno syscall.Errno
	if err == nil || err == io.EOF {
		return 0
	}
	if !errors.As(err, &errno) {
		errno = syscall.EDOM
	}
	return -int(errno)
}

// ---- messages and calls ----

func payload(number uint64, size int) []byte {
	data := make([]byte, size+8)
	binary.LittleEndian.PutUint64(data, number)
	binary.LittleEndian.PutUint64(data[8:], uint64(size))
	state := number
	for i := 16; i < size; i += 8 {
		binary.LittleEndian.PutUint64(data[i:], next(&state))
	}
	return data[:size]
}

func payloadSize() int {
	kind := dice(100)
	if kind < 80 {
		return 16 + dice(500)
	}
	if kind < 97 {
		return 16 + dice(20000)
	}
	return 16 + dice(largest-16)
}

func whole(data []byte) (uint64, int) {
	if len(data) < 16 || len(data) > largest {
		return 0, 1
	}
	number := binary.LittleEndian.Uint64(data)
	if !bytes.Equal(data, payload(number, len(data))) {
		return number, 1
	}
	return number, 0
}

// begun counts something under way, and returns what to do at its end.
func begun() func() {
	atomic.AddInt64(&inFlight, 1)
	return func() {
		atomic.StoreInt64(&lastOutcome, time.Now().UnixNano())
		atomic.AddInt64(&inFlight, -1)
	}
}

func within(chance, most int) (context.Context, context.CancelFunc) {
	if dice(chance) == 0 {
		return context.WithTimeout(context.Background(), time.Duration(dice(most)+1)*time.Millisecond)
	}
	return context.WithCancel(context.Background())
}

func send(conn *xenmsg.Conn, to int, address string) error {
	defer begun()()
	number := atomic.AddUint64(&lastNumber, 1)
	ctx, cancel := within(8, 50)
	defer cancel()
	note(started, number, to)
	err := conn.Send(ctx, address, payload(number, payloadSize()))
	note(ended, number, errnoOf(err))
	return err
}

func call(conn *xenmsg.Conn, to int, address string) error {
	defer begun()()
	number := atomic.AddUint64(&lastNumber, 1)
	ctx, cancel := within(4, 200)
	defer cancel()
	note(callStarted, number, to)
	reply, err := conn.Call(ctx, address, payload(number, payloadSize()))
	var own *xenmsg.Error
	switch {
	case err == nil:
		if got, bad := whole(reply.Data); bad != 0 || got != number|backwards {
			note(fault, number, -int(syscall.EBADMSG))
		}
		note(callEnded, number, 0)
	case errors.As(err, &own) && own.Errno == syscall.EREMOTEIO:
		note(callAnswered, number, -own.Code)
	case own.Errno == syscall.ETIMEDOUT && own.Fate == xenmsg.Unknown:
		note(callMaybe, number, -int(own.Errno))
	default:
		note(callEnded, number, -int(own.Errno))
	}
	return err
}

func handle(_ context.Context, m *xenmsg.Message) ([]byte, error) {
	number, bad := whole(m.Data)
	if !m.IsCall() {
		note(received, number, bad)
		return nil, nil
	}
	note(handled, number, bad)
	if dice(4) == 0 {
		time.Sleep(time.Duration(dice(300)) * time.Millisecond)
	}
	var err error
	switch dice(20) {
	case 0:
		note(replying, number, -xenmsg.Unanswered)
		err = m.ReplyError(xenmsg.Unanswered, nil)
	case 1:
		note(replying, number, -int(syscall.EILSEQ))
		err = m.ReplyError(int(syscall.EILSEQ), nil)
	default:
		note(replying, number, 0)
		err = m.Reply(payload(number|backwards, payloadSize()))
	}
	if err != nil && !errors.Is(err, syscall.ECANCELED) {
		note(fault, number, errnoOf(err))
	}
	if err == nil && !errors.Is(m.Reply(nil), syscall.EALREADY) {
		note(fault, number, -int(syscall.EALREADY))
	}
	return nil, nil // it is answered
}

// ---- streams ----

// content fills in a direction's bytes from `from` on.
func content(number uint64, from int, data []byte) {
	var word [8]byte
	for done := 0; done < len(data); {
		at := (from + done) / 8
		value, state := number, number+uint64(at)*0x9e3779b97f4a7c15
		if at != 0 {
			value = next(&state)
		}
		binary.LittleEndian.PutUint64(word[:], value)
		done += copy(data[done:], word[(from+done)%8:])
	}
}

type stream struct {
	*xenmsg.Stream
	in, out  uint64
	lastMove int64
	endNoted sync.Once
}

func (s *stream) moved() { atomic.StoreInt64(&s.lastMove, time.Now().UnixNano()) }

func (s *stream) noteEnd(read, result int) {
	s.endNoted.Do(func() {
		note(readUpto, s.in, read)
		note(readEnd, s.in, result)
	})
}

// write returns how many bytes it has written.
func (s *stream) write(read *int64) {
	kind, size := dice(100), 8
	switch {
	case kind < 70:
		size += dice(4000)
	case kind < 95:
		size += dice(200000)
	default:
		size += dice(3 << 20)
	}
	data := make([]byte, piece)
	done := 0
	for done < size {
		count := size - done
		if count > piece {
			count = piece
		}
		content(s.out, done, data[:count])
		note(offered, s.out, done+count)
		n, err := s.Write(data[:count])
		if done += n; n > 0 {
			note(written, s.out, done)
			s.moved()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break // the reader has enough
		}
		if err != nil {
			if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				note(fault, s.out, errnoOf(err))
			}
			if errors.Is(err, syscall.ECONNRESET) { // the kernel tells an error once
				s.noteEnd(int(atomic.LoadInt64(read)), -int(syscall.ECONNRESET))
			}
			break
		}
	}
	note(closing, s.out, done)
	if err := s.CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		note(fault, s.out, errnoOf(err))
	}
}

// wait sets the time until which a read waits, which is over where the program ends.
func wait(s *xenmsg.Stream) bool {
	s.SetReadDeadline(time.Now().Add(stalled))
	return atomic.LoadInt32(&quitting) == 0
}

func (s *stream) run(head int) {
	defer s.Close()
	read, rude := int64(head), 1<<30
	if dice(20) == 0 {
		rude = dice(5000)
	}
	s.moved()
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		s.write(&read)
	}()
	got, want := make([]byte, piece), make([]byte, piece)
	for int(read) < rude && wait(s.Stream) {
		n, err := s.Read(got)
		content(s.in, int(read), want[:n])
		if !bytes.Equal(got[:n], want[:n]) {
			note(damaged, s.in, int(read))
		}
		if atomic.AddInt64(&read, int64(n)); n > 0 {
			s.moved()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if atomic.LoadInt32(&quitting) != 0 || time.Since(time.Unix(0, atomic.LoadInt64(&s.lastMove))) < stalled {
				continue
			}
			note(fault, s.in, -int(syscall.ETIME))
		} else if err != nil {
			s.noteEnd(int(read), errnoOf(err))
			<-writing
			return
		}
		if err != nil {
			break
		}
	}
	s.SetWriteDeadline(time.Unix(1, 0))
	<-writing
}

func connect(conn *xenmsg.Conn, to int, address string) {
	defer func() { <-streamsOpen }()
	number := atomic.AddUint64(&lastNumber, 1)
	most := 30
	if dice(3) > 0 {
		most = 2000
	}
	ctx, cancel := within(1, most)
	note(connecting, number, to)
	s, err := conn.Connect(ctx, address+"-s")
	cancel()
	note(connected, number, errnoOf(err))
	if err == nil {
		open.Store(s, true)
		defer open.Delete(s)
		(&stream{Stream: s, out: number, in: number | backwards}).run(0)
	}
}

func accept(l *xenmsg.Listener, end func()) {
	defer working.Done()
	defer end()
	for {
		streamsOpen <- struct{}{}
		s, err := l.AcceptStream(context.Background())
		if err != nil {
			<-streamsOpen
			if errors.Is(err, syscall.ENOBUFS) {
				continue
			}
			return
		}
		working.Add(1)
		go func() {
			defer working.Done()
			defer func() { <-streamsOpen }()
			open.Store(s, true)
			defer open.Delete(s)
			var head [8]byte
			wait(s)
			_, err := io.ReadFull(s, head[:])
			if err != nil {
				result := 1 // closed here
				if !errors.Is(err, os.ErrDeadlineExceeded) && err != io.ErrUnexpectedEOF {
					result = errnoOf(err)
				} else if err == io.ErrUnexpectedEOF {
					result = 0
				}
				note(nameless, uint64(s.Peer().PID), result)
				s.Close()
				return
			}
			number := binary.LittleEndian.Uint64(head[:])
			note(accepted, number, int(s.Peer().PID))
			(&stream{Stream: s, in: number, out: number | backwards}).run(len(head))
		}()
	}
}

// ---- a session ----

// begin does things to one address, one after the other: so its messages are numbered in their order.
func begin(conn *xenmsg.Conn, over context.Context, to int, address string) {
	for over.Err() == nil && stopping.Err() == nil {
		time.Sleep(time.Duration(dice(60)) * time.Millisecond)
		var err error
		switch what := dice(100); {
		case atomic.LoadInt64(&inFlight) >= inFlightMax:
		case what < 60:
			err = send(conn, to, address)
		case what < 90:
			err = call(conn, to, address)
		case len(streamsOpen) < streamsMax/2:
			streamsOpen <- struct{}{}
			working.Add(1)
			go func() {
				defer working.Done()
				connect(conn, to, address)
			}()
		}
		if errors.Is(err, syscall.EPROTO) || errors.Is(err, syscall.EINVAL) {
			note(fault, 0, errnoOf(err))
		}
	}
}

func session(conn *xenmsg.Conn, name string, addresses []string) {
	defer conn.Close()
	e, err := conn.Bind(context.Background(), name, nil)
	var l *xenmsg.Listener
	if err == nil {
		l, err = conn.Listen(context.Background(), name+"-s", nil)
	}
	if err != nil {
		if !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.ENOTCONN) {
			note(fault, 0, errnoOf(err))
		}
		time.Sleep(20 * time.Millisecond)
		return
	}
	over, end := context.WithCancel(context.Background())
	working.Add(1)
	go accept(l, end)
	var beginners, serving sync.WaitGroup
	atomic.StoreInt64(&lastOutcome, time.Now().UnixNano())
	for to, address := range addresses {
		beginners.Add(1)
		go func(to int, address string) {
			defer beginners.Done()
			begin(conn, over, to, address)
		}(to, address)
	}
	serving.Add(1)
	go func() {
		defer serving.Done()
		if err := e.Serve(handle); errors.Is(err, syscall.EPROTO) {
			note(fault, 0, errnoOf(err))
		}
		end()
	}()
	for over.Err() == nil && stopping.Err() == nil {
		time.Sleep(10 * time.Millisecond)
		if last := atomic.LoadInt64(&lastOutcome); atomic.LoadInt64(&inFlight) > 0 && time.Since(time.Unix(0, last)) > stalled {
			stacks := make([]byte, 1<<20)
			os.Stderr.Write(stacks[:runtime.Stack(stacks, true)])
			note(fault, uint64(atomic.LoadInt64(&inFlight)), -int(syscall.ETIME))
			return
		}
	}
	for until := time.Now().Add(3 * time.Second); over.Err() == nil && atomic.LoadInt64(&inFlight) > 0 && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	conn.Close() // ends the rest
	beginners.Wait()
	serving.Wait()
}

func main() {
	var cancel context.CancelFunc
	stopping, cancel = signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	number, _ := strconv.ParseUint(os.Args[2], 10, 64)
	random.state, _ = strconv.ParseUint(os.Args[3], 10, 64)
	dialer := xenmsg.Dialer{Reconnect: random.state%2 == 0}
	var err error
	if journal, err = os.OpenFile(os.Args[1], os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0644); err != nil {
		os.Exit(1)
	}
	lastNumber = number << 32
	note(process, 0, os.Getpid())
	for stopping.Err() == nil {
		conn, err := dialer.Dial(stopping)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		session(conn, os.Args[4], os.Args[5:])
	}
	atomic.StoreInt32(&quitting, 1)
	rested := make(chan struct{})
	go func() {
		working.Wait()
		close(rested)
	}()
	for over := false; !over; { // one may just be opened
		open.Range(func(s, _ any) bool {
			s.(*xenmsg.Stream).SetDeadline(time.Unix(1, 0))
			return true
		})
		select {
		case <-rested:
			over = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	note(finished, 0, int(atomic.LoadInt64(&inFlight)))
}
