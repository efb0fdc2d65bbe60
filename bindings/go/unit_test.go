// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// ---- decoders ----

func FuzzDecoders(f *testing.F) {
	f.Add(appendOpen(nil, 1, kindCall, "inbox\x00dom1\x00host"))
	f.Add(appendFrame(nil, frameOpened, 0, make([]byte, 36)))
	f.Add([]byte{16, 0, 0, 0, 4, 0, 1, 0, 100, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if frame, size, err := nextFrame(data); err == nil && size > 0 && (size > len(data) || len(frame.payload) > payloadMax) {
			t.Fatal(size, len(frame.payload))
		}
		if text := fields(data); len(data) >= least[frameReset] {
			text.peer()
			text = data
			text.event()
			if text = data; text.reset().errno == 0 {
				t.Fatal("an error that is none")
			}
		}
		p, length, err := decodeProperties(data)
		if err == nil && (length > len(data) || length > propertiesMax || p.notice != nil && p.notice.Kind == 0) {
			t.Fatal(length)
		}
		if block := p.encode(); err == nil && block != nil {
			again, _, err := decodeProperties(block)
			p.notice, p.isPart, p.part, p.moreParts = nil, false, 0, false
			if err != nil || !reflect.DeepEqual(p, again) {
				t.Fatal(p, again, err)
			}
		}
	})
}

// encoded is a message as it lies in the stream.
func encoded(kind uint8, number uint32, block []byte, data string) []byte {
	m := newOutgoing(kind, block, []byte(data))
	m.number = number
	return m.append(nil, 0, m.total)
}

// A stream of messages is taken apart the same however it is split, and takes no more memory than has come.
func FuzzMessages(f *testing.F) {
	f.Add(append(encoded(typeMessage, 0, nil, "hello"), encoded(typeReply, 0, nil, "twelve bytes")...), uint8(3))
	f.Add(encoded(typeMessage|typeProperties, 0, nil, "\x10\x00\x00\x00\x04\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00x"), uint8(1))
	f.Add([]byte{0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}, uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		data = data[:len(data)&^7]
		takeAll := func(size int) (got []incoming, failed bool) {
			s := messageStream{max: 1 << 24}
			for rest := data; len(rest) > 0; {
				if size > len(rest) {
					size = len(rest)
				}
				for part := rest[:size]; len(part) > 0; {
					next, m, err := s.next(part)
					if err != nil {
						return got, true
					}
					if m != nil {
						got = append(got, *m)
					}
					part = next
				}
				rest = rest[size:]
			}
			if s.received != uint64(len(data)) || s.current != nil && cap(s.current.data) > 4*len(data)+payloadMax {
				t.Fatal(s.received, s.current)
			}
			return got, false
		}
		at, failedAt := takeAll(len(data))
		in, failedIn := takeAll(8 * (1 + int(piece)))
		if failedAt != failedIn || len(at) != len(in) {
			t.Fatal(len(at), len(in))
		}
		for i := range at {
			if !bytes.Equal(at[i].data, in[i].data) || at[i].end != in[i].end {
				t.Fatal(at[i], in[i])
			}
		}
	})
}

// However it is cut into frames, what is sent is the message of the page's section 2.1.
func TestAMessageIsSplitAnywhere(t *testing.T) {
	block := (&properties{trace: "a trace", key: "k"}).encode()
	for _, size := range []int{0, 1, 7, 8, 9, 64} {
		m := newOutgoing(typeMessage, block, bytes.Repeat([]byte{7}, size))
		whole := m.append(nil, 0, m.total)
		for cut := 8; cut < m.total; cut += 8 {
			if parts := m.append(m.append(nil, 0, cut), cut, m.total-cut); !bytes.Equal(parts, whole) {
				t.Fatalf("%d bytes, cut at %d: %x, in place of %x", size, cut, parts, whole)
			}
		}
		s := messageStream{max: 64}
		if _, got, err := s.next(whole); err != nil || got.trace != "a trace" || got.key != "k" || len(got.data) != size {
			t.Fatal(got, err)
		}
	}
}

// The example of the page's section 4.1.
func TestTheExampleOfThePage(t *testing.T) {
	want := []byte("\x1b\x00\x00\x00\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x00\x00\x00\x002:inbox\x00\x00\x00\x00\x00" +
		"\x18\x00\x00\x00\x12\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
		"\x05\x00\x00\x00\x00\x00\x00\x00hello\x00\x00\x00" + "\x00\x00\x00\x00\x00\x00\x00\x00")
	got := make(chan []byte, 1)
	conn := talk(t, func(daemon *net.UnixConn) {
		bytes := make([]byte, len(want))
		io.ReadFull(daemon, bytes)
		got <- bytes
		daemon.Write(appendU64(nil, frameCredit, 0, 24, 65560))
		hearOut(daemon)
	})
	if err := conn.Send(context.Background(), "2:inbox", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if bytes := <-got; string(bytes) != string(want) {
		t.Fatalf("%x, in place of %x", bytes, want)
	}
}

// NothingIsLeft waits until there is no more of something than there was before.
func NothingIsLeft(t testing.TB, before int, count func() int) {
	for end := time.Now().Add(2 * time.Minute); count() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<16)
			t.Fatalf("%d are left:\n%s", count()-before, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// ---- a daemon that lies ----

func listen(t testing.TB) *net.UnixListener {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

var helloWelcome = appendFrame(nil, frameWelcome, 0, append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0}, make([]byte, 16)...))

// sayWelcome takes what a connection begins with, and accepts it.
func sayWelcome(daemon *net.UnixConn) {
	io.ReadFull(daemon, make([]byte, headerSize+8))
	daemon.Write(helloWelcome)
}

// daemon is how to connect to a daemon that does the same in each session.
func daemon(t testing.TB, says func(daemon *net.UnixConn)) *Dialer {
	l := listen(t)
	var running sync.WaitGroup
	running.Add(1)
	go func() {
		defer running.Done()
		for {
			daemon, err := l.AcceptUnix()
			if err != nil {
				return
			}
			running.Add(1)
			go func() {
				defer running.Done()
				defer daemon.Close()
				says(daemon)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		running.Wait()
	})
	return &Dialer{Socket: l.Addr().String()}
}

// connect is a connection, until the test ends.
func connect(t testing.TB, d *Dialer) *Conn {
	conn, err := d.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func bind(t testing.TB, conn *Conn, name string) *Endpoint {
	e, err := conn.Bind(context.Background(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// talk is a connection to a daemon that says WELCOME, and then what `says` does.
func talk(t testing.TB, says func(daemon *net.UnixConn)) *Conn {
	return connect(t, daemon(t, func(daemon *net.UnixConn) {
		sayWelcome(daemon)
		says(daemon)
	}))
}

// asked is the next frame that a client has sent; of kind 0 if it has gone.
func asked(daemon *net.UnixConn) frame {
	buffer := make([]byte, headerSize+payloadMax)
	if _, err := io.ReadFull(daemon, buffer[:headerSize]); err != nil {
		return frame{}
	}
	io.ReadFull(daemon, buffer[headerSize:headerSize+padded(int(le.Uint32(buffer)))])
	return frame{buffer[4], le.Uint32(buffer[8:]), buffer[headerSize : headerSize+le.Uint32(buffer)]}
}

// hearOut reads until the client has gone.
func hearOut(daemon *net.UnixConn) {
	for kind := asked(daemon).kind; kind != 0 && kind != frameGoodbye; {
		kind = asked(daemon).kind
	}
}

// grant is the answer to a request, without an error, or with one.
func grant(f frame, errno syscall.Errno) []byte {
	return appendFrame(nil, frameReply, f.channel, []byte{byte(errno), 7: 0})
}

// bring is a message to an endpoint, on a channel of its own.
func bring(channel uint32, name, text string) []byte {
	out := appendFrame(nil, frameOpen, channel, append([]byte{kindMessage, 19: 0}, name...))
	return appendFrame(out, frameData, channel, encoded(typeMessage, 0, nil, text))
}

// What the daemon had for an endpoint that was closed is not for the next one of its name.
func TestAnEndpointThatIsBoundAgainBeginsEmpty(t *testing.T) {
	conn := talk(t, func(daemon *net.UnixConn) {
		daemon.Write(grant(asked(daemon), 0))
		asked(daemon) // UNBIND
		bind := asked(daemon)
		daemon.Write(append(bring(1, "inbox", "of before"), grant(bind, 0)...))
		daemon.Write(bring(3, "inbox", "of now"))
		hearOut(daemon)
	})
	bind(t, conn, "inbox").Close()
	if m, err := bind(t, conn, "inbox").Receive(context.Background()); err != nil || string(m.Data) != "of now" {
		t.Fatal(m, err)
	}
}

// While a message is handled nothing else is taken, and then what has come meanwhile: also where by then so many wait for
// more that whoever has handled it needn't.
func TestARequestIsHandledBehindAMessage(t *testing.T) {
	const many = 2 * waitingMax
	request := func(number uint32) []byte { return encoded(typeRequest, number, nil, "") }
	var begun sync.WaitGroup
	begun.Add(many)
	isBusy, last := make(chan struct{}), make(chan struct{})
	conn := talk(t, func(daemon *net.UnixConn) {
		daemon.Write(grant(asked(daemon), 0))
		out := appendFrame(nil, frameOpen, 1, append([]byte{kindCall, 19: 0}, "inbox"...))
		for number := uint32(1); number <= many; number++ {
			out = appendFrame(out, frameData, 1, request(number))
		}
		daemon.Write(appendU64(out, frameCredit, 1, 0, initialLimit))
		begun.Wait()
		daemon.Write(appendFrame(bring(3, "inbox", ""), frameData, 1, request(many+1)))
		hearOut(daemon)
	})
	e := bind(t, conn, "inbox")
	s := &service{Endpoint: e, waiting: 1}
	othersWait := func() bool { // who were told of the request, and can't take it
		conn.mu.Lock()
		defer conn.mu.Unlock()
		return s.waiting == waitingMax && len(e.wake) == 0
	}
	s.handler = func(_ context.Context, m *Message) ([]byte, error) {
		switch {
		case !m.isCall:
			for close(isBusy); !othersWait(); {
				time.Sleep(time.Millisecond)
			}
		case m.number > many:
			close(last)
		default:
			begun.Done()
			<-isBusy
		}
		return nil, nil
	}
	s.running.Add(1)
	go s.work()
	select {
	case <-last:
	case <-time.After(time.Minute):
		t.Fatal("nobody handles the request")
	}
}

// A lateContext's time is up when its test says so, which nothing but Deadline tells.
type lateContext struct {
	context.Context
	isLate *int32
}

func (c lateContext) Deadline() (time.Time, bool) {
	return time.Unix(1, 0), atomic.LoadInt32(c.isLate) != 0
}

func TestDescriptorsThatADaemonSendsAreClosed(t *testing.T) {
	descriptors := func() int {
		names, _ := filepath.Glob("/proc/self/fd/*")
		return len(names)
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Skip(err)
	}
	defer tcp.Close()
	file, _ := tcp.File() // no Unix socket
	defer file.Close()
	null, _ := os.Open(os.DevNull) // no socket at all
	defer null.Close()
	before := descriptors()
	for _, rights := range [][]byte{nil, syscall.UnixRights(int(null.Fd())), syscall.UnixRights(int(file.Fd())),
		syscall.UnixRights(int(file.Fd()), int(null.Fd()))} {
		rights := rights
		t.Run("", func(t *testing.T) {
			ctx := lateContext{context.Background(), new(int32)}
			conn := connect(t, daemon(t, func(daemon *net.UnixConn) {
				asked(daemon)
				daemon.WriteMsgUnix(helloWelcome, rights, nil)
				if asked(daemon).kind == frameOpen {
					atomic.StoreInt32(ctx.isLate, 1) // a stream that is there is given also then
					daemon.WriteMsgUnix(appendFrame(nil, frameReply, 0, make([]byte, 8)), rights, nil)
				}
			}))
			stream, err := conn.Connect(ctx, "2:stream")
			if (err == nil) != (rights == nil) {
				t.Error(err)
			}
			if err == nil {
				stream.Close()
			}
			conn.Close()
			if _, err := conn.Connect(context.Background(), "2:stream"); !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		})
	}
	NothingIsLeft(t, before, descriptors)
}

// A daemon that is slow to let connections in is waited for.
func TestADaemonWithAFullQueueOfConnectionsIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd, _ := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	defer syscall.Close(fd)
	syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	syscall.Listen(fd, 0)
	first, err := net.Dial("unix", path) // there is room for one
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := (&Dialer{Socket: path}).Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// lies are what a daemon may say that has answered all that it was asked: each frame with fields of all kinds, of
// each length, for each channel.
func lies() (all [][]byte) {
	for kind := 0; kind < 256; kind++ {
		if kind > 50 && kind < 128 && kind != 60 {
			continue
		}
		for _, channel := range []uint32{0, 1, 2, 3, 4, 1 << 16} {
			for _, fill := range []byte{0, 1, 8, 0xff} {
				for _, length := range []int{0, 7, 8, 16, 24, 36, 48} {
					all = append(all, appendFrame(nil, uint8(kind), channel, bytes.Repeat([]byte{fill}, length)))
				}
			}
		}
	}
	return all
}

// survive lets the daemon say something while messages, calls, endpoints and subscriptions are there.
func survive(t testing.TB, said []byte) {
	conn := talk(t, func(daemon *net.UnixConn) {
		out := []byte{}
		for number := uint32(1); number <= 4; number++ { // it grants what is asked
			out = append(out, grant(frame{channel: number}, 0)...)
		}
		out = appendFrame(out, frameOpen, 1, append([]byte{kindCall, 19: 0}, "inbox"...))
		out = appendFrame(out, frameOpen, 3, append([]byte{kindMessage, 19: 0}, "2:news"...))
		out = appendFrame(out, frameData, 1, encoded(typeRequest, 0, nil, "x"))
		asked := make([]byte, 4*(headerSize+16)) // BIND, SUBSCRIBE, WATCH, BIND
		io.ReadFull(daemon, asked[:3*(headerSize+16)])
		daemon.Write(append(out, said...))
		daemon.CloseWrite()
		daemon.SetDeadline(time.Now().Add(time.Minute))
		hearOut(daemon)
	})
	var under sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, do := range []func(){
		func() { conn.Send(ctx, "2:inbox", []byte("x")) },
		func() { conn.Call(ctx, "2:inbox", []byte("x")) },
		func() {
			if e, err := conn.Bind(ctx, "inbox", nil); err == nil {
				e.Serve(func(ctx context.Context, m *Message) ([]byte, error) { return m.Data, nil })
			}
		},
		func() {
			for s, err := conn.Subscribe(ctx, "2:news", nil); err == nil; _, _, err = s.Next(ctx) {
			}
		},
		func() {
			for w, err := conn.Watch(ctx, "*"); err == nil; _, err = w.Next(ctx) {
			}
		},
	} {
		under.Add(1)
		go func(do func()) {
			defer under.Done()
			do()
		}(do)
	}
	under.Wait()
	if conn.Close(); ctx.Err() != nil {
		t.Fatalf("something waits for ever after %x", said)
	}
}

func TestADaemonThatLiesHarmsNothingButItsSession(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("each", func(t *testing.T) {
		all := lies()
		step := 1 + len(all)/400 // a sample; FuzzDaemon has them all
		for i := 0; i < len(all); i += step {
			survive(t, all[i])
			survive(t, all[i][:len(all[i])/2]) // it ends in the midst of a frame
		}
	})
	NothingIsLeft(t, before, runtime.NumGoroutine)
}

// Of such sessions there would be thousands.
func TestADaemonThatLiesInEachSessionIsAskedSeldom(t *testing.T) {
	var sessions int32
	d := daemon(t, func(daemon *net.UnixConn) {
		atomic.AddInt32(&sessions, 1)
		sayWelcome(daemon)
		daemon.Write(make([]byte, headerSize))
		hearOut(daemon)
	})
	d.Reconnect = true
	conn := connect(t, d)
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := conn.Watch(ctx, "*"); err == nil || atomic.LoadInt32(&sessions) > 3 {
		t.Fatal(err, sessions)
	}
}

func FuzzDaemon(f *testing.F) {
	for i, lie := range lies() {
		if i%97 == 0 {
			f.Add(lie)
		}
	}
	f.Fuzz(func(t *testing.T, said []byte) { survive(t, said) })
}

func TestADaemonOfAnotherKindIsRefused(t *testing.T) {
	for want, says := range map[syscall.Errno][]byte{
		syscall.EPROTONOSUPPORT: appendFrame(nil, frameWelcome, 0, append([]byte{2}, make([]byte, 39)...)),
		syscall.EPROTO:          appendFrame(nil, frameData, 0, nil),
		syscall.ENOBUFS:         appendFrame(nil, frameGoodbye, 0, append([]byte{byte(syscall.ENOBUFS), 0, 0, 0}, "too many"...)),
		syscall.ENOTCONN:        {0x20},
	} {
		says := says
		d := daemon(t, func(daemon *net.UnixConn) {
			asked(daemon)
			daemon.Write(says)
		})
		if _, err := d.Dial(context.Background()); !errors.Is(err, want) {
			t.Errorf("%v, in place of %v", err, want)
		}
	}
	silent := listen(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := (&Dialer{Socket: silent.Addr().String()}).Dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := (&Dialer{Socket: "/nowhere"}).Dial(ctx); !errors.Is(err, syscall.ENOENT) && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// A daemon that reads nothing holds up nobody for longer than that wants to wait.
func TestADaemonThatDoesNotReadEndsNobodysPatience(t *testing.T) {
	release := make(chan struct{})
	conn := talk(t, func(daemon *net.UnixConn) {
		daemon.Write(appendU64(nil, frameCredit, 0, 0, 1<<30))
		<-release
	})
	defer close(release)
	for i := 0; i < 3; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		err := conn.Send(ctx, "2:inbox", make([]byte, 1<<20))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
}

// What is closed before the next daemon is asked for it isn't asked for, and what is closed meanwhile is told by neither
// to be refused: its name is free at once.
func TestWhatIsClosedMeanwhileIsNotRefused(t *testing.T) {
	asks, isClosed, session := make(chan string), make(chan bool), int32(0)
	d := daemon(t, func(daemon *net.UnixConn) {
		sayWelcome(daemon)
		bind := asked(daemon)
		if atomic.AddInt32(&session, 1) == 1 {
			daemon.Write(grant(bind, 0))
			daemon.Write(grant(asked(daemon), 0))
			return
		}
		name := string(bind.payload[4:])
		asks <- name
		<-isClosed
		unbind, other, again := asked(daemon), asked(daemon), asked(daemon)
		out := append(grant(bind, syscall.EEXIST), grant(unbind, syscall.ENOENT)...)
		out = append(append(out, grant(other, syscall.ENOENT)...), grant(again, 0)...)
		daemon.Write(append(out, bring(1, name, "to the next one")...))
		hearOut(daemon)
	})
	changes := make(chan Change, 10)
	d.Reconnect, d.OnChange = true, func(c Change) { changes <- c }
	conn := connect(t, d)
	one, two := bind(t, conn, "one"), bind(t, conn, "two")
	name := <-asks
	one.Close()
	two.Close()
	close(isClosed)
	if m, err := bind(t, conn, name).Receive(context.Background()); err != nil || string(m.Data) != "to the next one" {
		t.Fatal(m, err)
	}
	for _, kind := range []ChangeKind{Lost, Back} {
		if c := <-changes; c.Kind != kind {
			t.Fatal(c)
		}
	}
}

// A keeper is a daemon that knows what is bound and subscribed to, and ends soon, but for the last time.
type keeper struct {
	mu    sync.Mutex
	lives int             // still to come
	has   map[string]bool // now
	twice []string
}

func (k *keeper) isOver() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lives == 0
}

func (k *keeper) says(daemon *net.UnixConn) {
	sayWelcome(daemon)
	has := map[string]bool{}
	k.mu.Lock()
	if k.has = has; k.lives > 0 {
		k.lives--
		daemon.SetReadDeadline(time.Now().Add(time.Duration(k.lives%4) * time.Millisecond)) // some at once
	}
	k.mu.Unlock()
	for f := asked(daemon); f.kind != 0 && f.kind != frameGoodbye; f = asked(daemon) {
		errno, name := syscall.Errno(0), string(f.payload)
		k.mu.Lock()
		if f.kind == frameUnbind || f.kind == frameDrain {
			if !has[name] {
				errno = syscall.ENOENT
			}
			delete(has, name)
		} else if name = name[4:]; has[name] {
			k.twice = append(k.twice, name)
			errno = syscall.EEXIST
		} else {
			has[name] = true
		}
		k.mu.Unlock()
		daemon.Write(grant(f, errno))
	}
}

// Whenever daemons end, and whatever the program begins and ends meanwhile, the last one has what the program has, and
// none is asked for anything twice.
func TestTheNextDaemonHasWhatTheProgramHas(t *testing.T) {
	k := &keeper{lives: 300}
	d := daemon(t, k.says)
	d.Reconnect, d.OnChange = true, func(c Change) {
		if c.Kind == Refused {
			t.Error(c)
		}
	}
	conn, names := connect(t, d), []string{"a", "b", "c", "1:topic", "kept"}
	begin := func(ctx context.Context, name string) (*Endpoint, error) {
		if name == "1:topic" {
			s, err := conn.Subscribe(ctx, name, nil)
			if err != nil {
				return nil, err
			}
			return &Endpoint{binding: s.binding}, nil
		}
		return conn.Bind(ctx, name, nil)
	}
	bind(t, conn, "kept")
	var working sync.WaitGroup
	for i := range names[:4] {
		working.Add(1)
		go func(i int) {
			defer working.Done()
			for n := i; !k.isOver(); n++ {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(n*37%3000)*time.Microsecond)
				e, err := begin(ctx, names[i])
				if err == nil && n%3 > 0 && names[i] != "1:topic" {
					e.Drain(ctx)
				} else if err == nil {
					time.Sleep(time.Duration(n%7) * 200 * time.Microsecond)
					e.Close()
				}
				cancel()
			}
			if _, err := begin(context.Background(), names[i]); err != nil {
				t.Error(err)
			}
		}(i)
	}
	working.Wait()
	NothingIsLeft(t, 0, func() int {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(names) - len(k.has)
	})
	if len(k.twice) > 0 {
		t.Fatal(k.twice)
	}
}

func TestAWatchThatIsClosedMeanwhileIsNotBegunAgain(t *testing.T) {
	conn := talk(t, hearOut)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	b := &binding{c: conn, name: "*", err: failed(syscall.ECANCELED)}
	if err := b.watchAgain(ctx); err != b.err || b.call != nil {
		t.Fatal(err, b.call)
	}
}

// A daemon that has gone, when all was asked of it again, isn't told to be back.
func TestADaemonThatHasGoneIsNotBack(t *testing.T) {
	c := &Conn{dialer: Dialer{OnChange: func(Change) {}}, changed: make(chan struct{}, 1)}
	c.rebinding.Add(1)
	if c.rebind(nil); len(c.changes) != 0 {
		t.Fatal(c.changes)
	}
}

var firstPart = []byte("\x10\x00\x00\x00\x08\x00\x06\x00\x00\x00\x00\x00\x01\x00\x00\x00") // of a reply: and more comes

// An askedContext does something where it is is asked when to end behind its call was made.
type askedContext struct {
	context.Context
	whenAsked func()
}

func (c askedContext) Done() <-chan struct{} {
	c.whenAsked()
	return nil
}

// A watch that has begun is there, though its daemon has gone by then: else the next one would be asked for it twice.
func TestAWatchThatHasBegunIsThere(t *testing.T) {
	for i := 0; i < 10; i++ { // by chance
		conn := talk(t, func(daemon *net.UnixConn) {
			open, call := asked(daemon), asked(daemon)
			daemon.Write(appendFrame(nil, frameData, open.channel, encoded(typeReply, le.Uint32(call.payload[len(call.payload)-4:]), firstPart, "")))
		})
		_, err := conn.Watch(askedContext{context.Background(), func() { <-conn.over }}, "*")
		if err != nil {
			t.Fatal(i, err)
		}
	}
}

// The answer to a watch never ends: one that does breaks the protocol, and a watch waits for no more of it.
func TestAWatchWhoseAnswerEndsIsOver(t *testing.T) {
	last := append(append([]byte{}, firstPart[:12]...), 0, 0, 0, 0)
	for _, blocks := range [][][]byte{{nil}, {last}, {firstPart, last}} {
		blocks := blocks
		conn := talk(t, func(daemon *net.UnixConn) {
			open, call := asked(daemon), asked(daemon)
			for _, block := range blocks {
				answer := encoded(typeReply, le.Uint32(call.payload[len(call.payload)-4:]), block, "")
				daemon.Write(appendFrame(nil, frameData, open.channel, answer))
			}
			hearOut(daemon)
		})
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		w, err := conn.Watch(ctx, "*")
		if err == nil {
			_, err = w.Next(ctx)
		}
		cancel()
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(blocks, err)
		}
	}
}

// Behind the name of a domain, or none, the place where another one would stand is empty.
func TestAnEventOfAnotherHostNamesIt(t *testing.T) {
	for text, want := range map[string]Event{
		"\x01work":               {Kind: DomainUp, Domain: "work"},
		"\x02work\x00\x00hostb":  {Kind: DomainDown, Domain: "work", Host: "hostb"},
		"\x03print\x00work":      {Kind: EndpointUp, Name: "print", Domain: "work"},
		"\x04print\x00\x00hostb": {Kind: EndpointDown, Name: "print", Host: "hostb"},
		"\x05work\x00\x00hostb":  {Kind: DomainAway, Domain: "work", Host: "hostb"},
		"\x06\x00\x00hostb":      {Kind: HostUp, Host: "hostb"},
		"\x08more\x00\x00hostb":  {Kind: Listed, Name: "more", Host: "hostb"},
	} {
		part := fields(text[:1] + string(make([]byte, 7)) + text[1:])
		if got := part.event(); got != want {
			t.Errorf("%q is %+v, not %+v", text, got, want)
		}
	}
}

// Of a list that begins anew with the next daemon a watch tells what differs.
func TestAWatchThatBeginsAnewTellsChanges(t *testing.T) {
	w := &Watch{&binding{c: &Conn{}, told: map[thing]*toldThing{}, begun: make(chan struct{}), wake: make(chan struct{}, 1)}}
	close(w.begun)
	for _, step := range []struct {
		says []Event // after it has begun
		want []Event
	}{
		{[]Event{{Kind: DomainUp, DomID: 2}, {Kind: EndpointUp, DomID: 2, Name: "print"}, {Kind: Listed}},
			[]Event{{Kind: DomainUp, DomID: 2}, {Kind: EndpointUp, DomID: 2, Name: "print"}, {Kind: Listed}}},
		{[]Event{{Kind: DomainUp, DomID: 2}, {Kind: DomainAway, DomID: 2}, {Kind: DomainUp, DomID: 2},
			{Kind: EndpointUp, DomID: 2, Name: "print"}, {Kind: EndpointDown, DomID: 2, Name: "never"}, {Kind: Listed}}, nil},
		{[]Event{{Kind: DomainUp, DomID: 2, Domain: "web"}, {Kind: Listed}},
			[]Event{{Kind: DomainUp, DomID: 2, Domain: "web"}, {Kind: EndpointDown, DomID: 2, Name: "print"}}},
		{[]Event{{Kind: DomainUp, DomID: 2}, {Kind: DomainAway, DomID: 2}, {Kind: Listed}},
			[]Event{{Kind: DomainAway, DomID: 2, Domain: "web"}}},
	} {
		if err := w.takeEvent(nil); err != nil {
			t.Fatal(err)
		}
		for _, e := range step.says {
			if e.Kind == Listed {
				w.endList(e)
			} else {
				w.takeChange(e)
			}
		}
		var told []Event
		for w.events.Len() > 0 {
			e, _ := w.Next(context.Background())
			told = append(told, e)
		}
		if !reflect.DeepEqual(told, step.want) {
			t.Fatalf("told %v, not %v", told, step.want)
		}
	}
}

// A request that nobody waits for any more gives its name to the next one, and isn't made again.
func TestABindingThatIsGivenUpIsForgottenAtOnce(t *testing.T) {
	conn := talk(t, hearOut)
	b := &binding{c: conn, name: "inbox", key: "inbox", ask: frameBind, undo: frameUnbind, over: make(chan struct{})}
	conn.bindings["inbox"] = b
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for number := conn.nextRequest; conn.nextRequest == number; { // until one was sent
		conn.request(ctx, "bind", "inbox", frameBind, []byte("\x01\x00\x00\x00inbox"), b)
	}
	if b.err == nil || conn.bindings["inbox"] != nil {
		t.Fatal(b.err, conn.bindings)
	}
}

func TestAWatchThatIsGivenUpSaysWhy(t *testing.T) {
	t.Parallel() // it takes as long as a daemon is waited for that says nothing
	conn := talk(t, hearOut)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := conn.Watch(ctx, "*"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestAWatchOfManyThingsTellsThemSoon(t *testing.T) {
	w := &binding{told: map[thing]*toldThing{}, begun: make(chan struct{}), wake: make(chan struct{}, 1), over: make(chan struct{})}
	close(w.begun)
	began := time.Now()
	for i := 0; i < pendingMax; i++ {
		w.takeChange(Event{Kind: EndpointUp, DomID: uint32(i), Name: "print"})
	}
	w.takeChange(Event{Kind: EndpointDown, DomID: 7, Name: "print"})
	if took := time.Since(began); w.err != nil || took > 5*time.Second {
		t.Fatal(w.err, took)
	}
}

// What the daemon has given is the program's, also where its context has ended just before: nobody else gets it.
func TestAStreamIsAcceptedWhereTheContextEndsMeanwhile(t *testing.T) {
	cancels := make(chan context.CancelFunc, 1)
	conn := talk(t, func(daemon *net.UnixConn) {
		switch f := asked(daemon); f.kind {
		case frameBind:
			daemon.Write(grant(f, 0))
			for token := byte(1); token <= 50; token++ {
				daemon.Write(appendFrame(nil, frameIncoming, 0, append([]byte{token, 23: 0}, "inbox"...)))
			}
			hearOut(daemon)
		case frameAccept:
			(<-cancels)()
			daemon.Write(appendFrame(nil, frameReply, 0, make([]byte, 16)))
			daemon.Write([]byte{f.payload[0]})
		}
	})
	listener, err := conn.Listen(context.Background(), "inbox", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 50; i++ {
		ctx, cancel := context.WithCancel(context.Background())
		cancels <- cancel
		stream, err := listener.AcceptStream(ctx)
		if err != nil {
			t.Fatal(i, err)
		}
		got := []byte{0}
		if _, err := stream.Read(got); err != nil || int(got[0]) != i {
			t.Fatal(i, got, err)
		}
		stream.Close()
	}
}
