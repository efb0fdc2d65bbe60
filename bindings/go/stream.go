// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// An Addr is one end of a stream: DOMAIN:ENDPOINT, as far as it is known.
type Addr string

// Network returns "xenmsg".
func (Addr) Network() string { return "xenmsg" }

// String returns the address.
func (a Addr) String() string { return string(a) }

// A Stream is bytes both ways between two programs: a [net.Conn] on a socket of its own, which lives on without
// the Conn. The end of the other side's bytes reads as [io.EOF]; if something between the two programs dies,
// reading gives ECONNRESET behind what came, and writing EPIPE or ECONNRESET.
type Stream struct {
	sock          *net.UnixConn
	local, remote Addr
	peer          Peer
}

var _ interface {
	net.Conn
	syscall.Conn
	io.ReaderFrom
	io.WriterTo
} = (*Stream)(nil)

func (s *Stream) err(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		op.Net, op.Source, op.Addr = "xenmsg", s.local, s.remote
	}
	return err
}

// Read reads.
func (s *Stream) Read(b []byte) (int, error) {
	n, err := s.sock.Read(b)
	return n, s.err(err)
}

// Write writes.
func (s *Stream) Write(b []byte) (int, error) {
	n, err := s.sock.Write(b)
	return n, s.err(err)
}

// ReadFrom writes all that a reader has, as io.Copy does.
func (s *Stream) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{s.sock}, r)
}

// WriteTo writes all that comes to a writer, without a copy where that is a TCP connection.
func (s *Stream) WriteTo(w io.Writer) (int64, error) {
	if tcp, ok := w.(*net.TCPConn); ok {
		return tcp.ReadFrom(s.sock)
	}
	return io.Copy(w, struct{ io.Reader }{s.sock})
}

// Close ends both directions. The other side reads what was written, and then the end.
func (s *Stream) Close() error { return s.err(s.sock.Close()) }

// CloseWrite ends this direction; what the other side writes still comes.
func (s *Stream) CloseWrite() error { return s.err(s.sock.CloseWrite()) }

// CloseRead takes no more: the other side's writes fail with EPIPE.
func (s *Stream) CloseRead() error { return s.err(s.sock.CloseRead()) }

// Break closes the stream so that the other side gets ECONNRESET, behind what came before. It is for a program
// that had to stop halfway.
func (s *Stream) Break() error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		s.sock.Close()
		return err
	}
	defer null.Close()
	s.sock.SetWriteDeadline(time.Now().Add(time.Second))
	_, _, err = s.sock.WriteMsgUnix([]byte{0}, syscall.UnixRights(int(null.Fd())), nil)
	if closed := s.sock.Close(); err == nil {
		err = closed
	}
	return s.err(err)
}

// LocalAddr returns what is known of this end.
func (s *Stream) LocalAddr() net.Addr { return s.local }

// RemoteAddr returns what is known of the other end.
func (s *Stream) RemoteAddr() net.Addr { return s.remote }

// Peer returns the program that has opened a stream which was accepted.
func (s *Stream) Peer() Peer { return s.peer }

// SetDeadline is as for any net.Conn.
func (s *Stream) SetDeadline(t time.Time) error { return s.sock.SetDeadline(t) }

// SetReadDeadline is as for any net.Conn.
func (s *Stream) SetReadDeadline(t time.Time) error { return s.sock.SetReadDeadline(t) }

// SetWriteDeadline is as for any net.Conn.
func (s *Stream) SetWriteDeadline(t time.Time) error { return s.sock.SetWriteDeadline(t) }

// SyscallConn gives the socket.
func (s *Stream) SyscallConn() (syscall.RawConn, error) { return s.sock.SyscallConn() }

// fetch makes a stream of a socket by one frame. [6]
func fetch(ctx context.Context, path string, request []byte) (*net.UnixConn, error) {
	sock, _, err := greet(ctx, path, 2, false)
	if err != nil {
		return nil, err
	}
	release := bound(ctx, sock, 0)
	_, err = sock.Write(append(request, 0))
	var f frame
	if err == nil {
		f, err = readFrame(sock)
	}
	release()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = checkFetched(f)
	}
	if err != nil {
		sock.Close()
		var said *Error
		if ctx.Err() != nil { // the daemon resets what it had opened
			err = ended(ctx, Unknown)
		} else if !errors.As(err, &said) {
			err = &Error{Errno: errnoIn(err, syscall.ENOTCONN), Fate: NotDone}
		}
		return nil, err
	}
	return sock, nil
}

func checkFetched(f frame) error {
	switch f.kind {
	case frameGoodbye:
		return goodbye(f.payload)
	case frameReply:
		errno, reason, err := decodeReply(f.payload)
		if err == nil && errno != 0 {
			err = &Error{Errno: errno, Fate: NotDone, Reason: string(reason)}
		}
		return err
	}
	return errProto("frame %d in place of REPLY", f.kind)
}

// Connect opens a stream to an endpoint on which a program listens.
func (c *Conn) Connect(ctx context.Context, address string) (*Stream, error) {
	_, _, valid := cutAddress(address)
	err := error(&Error{Errno: syscall.EINVAL, Fate: NotDone})
	var sock *net.UnixConn
	if valid {
		sock, err = fetch(ctx, c.path, appendOpen(nil, 0, kindStream, address))
	}
	if err != nil {
		var said *Error
		errors.As(err, &said)
		return nil, said.about("connect", address)
	}
	return &Stream{sock: sock, local: "self:", remote: Addr(address)}, nil
}

// ConnectFunc returns a function that connects to the address whatever it is asked for: as the DialContext of an
// http.Transport, for example.
func (c *Conn) ConnectFunc(address string) func(ctx context.Context, network, ignored string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		stream, err := c.Connect(ctx, address)
		if err != nil {
			return nil, err // not a Stream that is nil
		}
		return stream, nil
	}
}

// A Listener takes the streams that come to an endpoint: a [net.Listener].
type Listener struct {
	c       *Conn
	name    string
	kinds   uint32
	waiting []incomingStream // at most as many as the daemon lets wait
	wake    chan struct{}
	over    chan struct{}
	err     *Error
	isBound bool
}

var _ net.Listener = (*Listener)(nil)

// ListenOptions say who may connect.
type ListenOptions struct {
	// FromHosts lets streams come from other hosts, too, where rules allow that: the program asks Peer.Host.
	FromHosts bool
	// Shared lets other programs of this user that say so, too, listen beside this one.
	Shared bool
}

// Listen makes an endpoint for streams, which exists until its Close or the connection's.
func (c *Conn) Listen(ctx context.Context, name string, options *ListenOptions) (*Listener, error) {
	l := &Listener{c: c, name: name, kinds: 4, wake: make(chan struct{}, 1), over: make(chan struct{})}
	if options != nil && options.FromHosts {
		l.kinds |= 1 << 31
	}
	if options != nil && options.Shared {
		l.kinds |= 1 << 30
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		err := c.await(ctx)
		if err == nil && (c.boxes[name] != nil || c.listeners[name] != nil) {
			err = &Error{Errno: syscall.EEXIST, Fate: NotDone}
		}
		if err != nil {
			return nil, err.about("listen", name)
		}
		c.listeners[name] = l
		c.mu.Unlock()
		failure := l.bindAgain(ctx)
		c.mu.Lock()
		if failure == nil {
			return l, nil
		}
		delete(c.listeners, name)
		if !errors.Is(failure, syscall.ENOTCONN) || !c.dialer.Reconnect || c.closed {
			return nil, failure
		}
	}
}

func (l *Listener) bindAgain(ctx context.Context) error {
	c := l.c
	_, err := c.request(ctx, "listen", l.name, frameBind, append(le.AppendUint32(nil, l.kinds), l.name...),
		func() { c.tellDaemon(frameUnbind, l.name) })
	c.mu.Lock()
	defer c.mu.Unlock()
	l.isBound = l.isBound || err == nil
	return err
}

func (l *Listener) put(in incomingStream) {
	l.waiting = append(l.waiting, in)
	l.signal()
}

func (l *Listener) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Listener) end(err *Error) {
	if l.err == nil {
		l.err = err
		close(l.over)
		delete(l.c.listeners, l.name)
	}
}

// Accept takes the next stream.
func (l *Listener) Accept() (net.Conn, error) {
	stream, err := l.AcceptStream(context.Background())
	if err != nil {
		return nil, err
	}
	return stream, nil
}

// AcceptStream takes the next stream, until the context ends.
func (l *Listener) AcceptStream(ctx context.Context) (*Stream, error) {
	for {
		l.c.mu.Lock()
		err, has := l.err, len(l.waiting) > 0
		var in incomingStream
		if err == nil && has {
			in = l.waiting[0]
			l.waiting = l.waiting[:copy(l.waiting, l.waiting[1:])]
			if len(l.waiting) > 0 {
				l.signal()
			}
		}
		l.c.mu.Unlock()
		if err != nil {
			return nil, err.about("accept", l.name)
		}
		if !has {
			select {
			case <-l.wake:
			case <-l.over:
			case <-ctx.Done():
				return nil, ended(ctx, NotDone).about("accept", l.name)
			}
			continue
		}
		sock, failure := fetch(ctx, l.c.path, appendU64(nil, frameAccept, 0, in.token))
		if failure == nil {
			return &Stream{sock: sock, local: Addr("self:" + l.name), remote: Addr(in.peer.String()), peer: in.peer}, nil
		}
		var said *Error
		errors.As(failure, &said)
		if ctx.Err() != nil || said.Errno == syscall.EMFILE || said.Errno == syscall.ENFILE || said.Errno == syscall.ENOBUFS {
			l.c.mu.Lock()
			l.put(in) // it waits on
			l.c.mu.Unlock()
			return nil, said.about("accept", l.name)
		}
		// its caller has gone, or its daemon
	}
}

// Close removes the endpoint. Streams that were accepted live on.
func (l *Listener) Close() error {
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.err == nil {
		l.end(&Error{Op: "accept", Address: l.name, Errno: syscall.ECANCELED, Fate: NotDone})
		l.c.tellDaemon(frameUnbind, l.name)
	}
	return nil
}

// Addr returns "self:" and the endpoint.
func (l *Listener) Addr() net.Addr { return Addr("self:" + l.name) }
