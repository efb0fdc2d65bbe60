// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"context"
	"errors"
	"fmt"
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
		if op.Op == "read" && errors.Is(err, syscall.ECONNRESET) {
			op.Err = fmt.Errorf("%w: %s", op.Err, s.BreakReason())
		}
	}
	return err
}

// What the program there couldn't reach, or lost: the words of wire/advice.c, which tests/integration/test_go.py
// compares.
var targetTexts = map[syscall.Errno]string{
	syscall.ECONNREFUSED:  "connection refused",
	syscall.ECONNRESET:    "connection reset",
	syscall.EPIPE:         "it takes no more",
	syscall.ETIMEDOUT:     "connection timed out",
	syscall.EHOSTUNREACH:  "host unreachable",
	syscall.EHOSTDOWN:     "its domain or host is down",
	syscall.ENETUNREACH:   "network unreachable",
	syscall.EADDRNOTAVAIL: "no such address can be used there",
	syscall.ENODATA:       "no such host or service is known there",
	syscall.ENOENT:        "no such socket or endpoint",
	syscall.EACCES:        "permission denied",
	syscall.EPROTOTYPE:    "it isn't for streams",
	syscall.ENOBUFS:       "over a limit",
	syscall.EMFILE:        "over a limit",
	syscall.ENFILE:        "over a limit",
	syscall.ENOMEM:        "out of memory",
	syscall.ECANCELED:     "the program there was ended meanwhile",
	syscall.ENOEXEC:       "the command there can't be started",
	syscall.ECHILD:        "the command there was killed before it had ended",
}

// BreakReason returns in words why the stream has broken, once reading has given ECONNRESET, whose text has it, too,
// and before Close. [6]
func (s *Stream) BreakReason() string {
	var name string
	if raw, err := s.sock.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			if at, err := syscall.Getpeername(int(fd)); err == nil {
				if unix, ok := at.(*syscall.SockaddrUnix); ok {
					name = unix.Name
				}
			}
		})
	}
	var flags, hasCome uint32
	if n, _ := fmt.Sscanf(name, "@xenmsg/break/%8x/%1d/", &flags, &hasCome); n != 2 {
		flags = 0
	}
	return breakText(flags, hasCome != 0)
}

// breakText has the words for the flags of a RESET.
func breakText(flags uint32, hasCome bool) string {
	cause := syscall.Errno(flags >> 16 & 0xfff)
	words := targetTexts[cause]
	switch by := flags >> 8 & 7; {
	case by == 1 && (cause == syscall.ECANCELED || cause == syscall.ENOEXEC || cause == syscall.ECHILD):
		return words
	case by == 1 && cause != 0:
		if words == "" {
			words = "another error"
		}
		if hasCome {
			return "the stream broke behind the program there: " + words
		}
		return "the program there can't reach its target: " + words
	case by == 1 && hasCome:
		return "the stream broke: the program there has broken it off"
	case by == 1:
		return "the program there has ended it before anything came, as a server of 'xenmsg run' does if something else calls it"
	case by == 2:
		return "the stream broke: the program there has died, or left without a word"
	case by == 3:
		return "the stream broke: its domain, or the xenmsgd there, is gone"
	case by == 4:
		return "denied by policy in domain 0, which passes it on; there 'xenmsg policy check FROM TO' says by which rule"
	}
	return "the stream broke; nobody says why"
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

// Break closes the stream so that the other side gets ECONNRESET, behind what came before, and never waits. It is for a
// program that had to stop halfway.
func (s *Stream) Break() error {
	failure := net.ErrClosed
	if raw, err := s.sock.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			// One byte more, also behind a full buffer, with a descriptor, of which this is one. [6]
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 1<<20)
			failure = syscall.Sendmsg(int(fd), []byte{0}, syscall.UnixRights(int(fd)), nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
		})
	}
	closed := s.sock.Close()
	if failure == nil {
		failure = closed
	}
	return s.err(failure)
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

const streamFlags = 2 | 8 // of HELLO: the connection is for a stream, which may be another socket

// fetch asks for a stream by a connection that was made for it, until the context has ended for a while, and renames
// the peer, if the daemon says so. [6]
func fetch(ctx context.Context, sock *net.UnixConn, while time.Duration, request []byte, peer *Peer) (*net.UnixConn, *Error) {
	kept, failure := os.Open(os.DevNull) // a descriptor: what can't be taken isn't asked for
	if failure != nil {
		sock.Close()
		return nil, errorOf(failure)
	}
	defer kept.Close()
	var given *os.File
	f, err := converse(ctx, sock, 0, while, append(request, 0), func() (err error) {
		given, err = lookForDescriptor(ctx, sock, kept)
		return err
	})
	if given != nil {
		defer given.Close()
	}
	if err != nil && isOver(ctx) { // the daemon resets what it had opened; what is there is given
		err = ended(ctx, Unknown)
	}
	if err == nil {
		switch f.kind {
		case frameGoodbye:
			err = goodbye(f.payload)
		case frameReply:
			if err = f.payload.reply(); err == nil && peer != nil && len(f.payload) >= 4 {
				peer.DomID, peer.Domain = f.payload.u32(), f.payload.text()
			}
		default:
			err = errProto("frame %d in place of REPLY", f.kind)
		}
	}
	if err != nil || given != nil { // else this connection is the stream
		sock.Close()
		kept.Close() // for socketOf
	}
	if err == nil && given != nil {
		sock, err = socketOf(ctx, given)
	}
	return sock, err
}

// lookForDescriptor waits for what comes, and returns the descriptor that is with it, nil if there is none. It only
// looks: where there is no room for one, that waits until others have given theirs back.
func lookForDescriptor(ctx context.Context, sock *net.UnixConn, kept *os.File) (*os.File, error) {
	raw, failure := sock.SyscallConn()
	control := make([]byte, syscall.CmsgLen(4)) // of one
	for pause := time.Millisecond; failure == nil; {
		var size, flags int
		var err error
		failure = raw.Read(func(fd uintptr) bool {
			var data [1]byte
			for err = syscall.EINTR; err == syscall.EINTR; {
				_, size, flags, _, err = syscall.Recvmsg(int(fd), data[:], control, syscall.MSG_PEEK|syscall.MSG_CMSG_CLOEXEC)
			}
			return err != syscall.EAGAIN
		})
		if failure == nil && err == nil && size > 0 {
			messages, _ := syscall.ParseSocketControlMessage(control[:size])
			fds, err := syscall.ParseUnixRights(&messages[0])
			if err != nil {
				return nil, err
			}
			return os.NewFile(uintptr(fds[0]), "stream"), nil
		}
		if failure != nil || err != nil || flags&syscall.MSG_CTRUNC == 0 {
			break // what it is, whoever reads learns
		}
		kept.Close()
		if !sleep(ctx, &pause, 100*time.Millisecond) {
			return nil, syscall.EMFILE
		}
	}
	return nil, failure
}

// socketOf makes a connection of a descriptor, for which it takes another one.
func socketOf(ctx context.Context, given *os.File) (*net.UnixConn, *Error) {
	for pause := time.Millisecond; ; {
		made, failure := net.FileConn(given)
		if sock, ok := made.(*net.UnixConn); ok {
			return sock, nil
		}
		if made != nil {
			made.Close()
			return nil, errProto("a stream that is no Unix socket")
		}
		err := errorOf(failure)
		if !err.Temporary() || !sleep(ctx, &pause, 100*time.Millisecond) {
			return nil, err
		}
	}
}

// Connect opens a stream to an endpoint on which a program listens.
func (c *Conn) Connect(ctx context.Context, address string) (*Stream, error) {
	if _, _, valid := cutAddress(address); !valid {
		return nil, invalid("connect", address)
	}
	c.mu.Lock()
	err := c.await(ctx)
	c.mu.Unlock()
	var sock *net.UnixConn
	if err == nil {
		sock, _, err = greet(ctx, c.path, streamFlags, c.outlives)
	}
	if err == nil {
		sock, err = fetch(ctx, sock, 0, appendOpen(nil, 0, kindStream, address), nil)
	}
	if err != nil {
		return nil, err.about("connect", address)
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
type Listener struct{ *binding }

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
	kinds := uint32(4)
	if options != nil && options.FromHosts {
		kinds |= 1 << 31
	}
	if options != nil && options.Shared {
		kinds |= 1 << 30
	}
	b, err := c.bindKinds(ctx, "listen", "accept", name, kinds)
	if err != nil {
		return nil, err
	}
	return &Listener{b}, nil
}

func (b *binding) put(in incomingStream) {
	b.streams = append(b.streams, in)
	b.signal()
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
	c := l.c
	for {
		var in incomingStream
		var session *net.UnixConn
		if err := l.next(ctx, func() bool {
			if l.err != nil || len(l.streams) == 0 {
				return false
			}
			in, session = l.streams[0], c.sock
			l.streams = l.streams[:copy(l.streams, l.streams[1:])]
			return true
		}); err != nil {
			return nil, err
		}
		sock, _, err := greet(ctx, c.path, streamFlags, func() bool { return false })
		if err == nil {
			// The daemon has given it away as soon as it has answered, which it does at once.
			sock, err = fetch(ctx, sock, cancelPatience, appendU64(nil, frameAccept, 0, in.token), &in.peer)
		}
		if err == nil {
			return &Stream{sock: sock, local: Addr("self:" + l.name), remote: Addr(in.peer.String()), peer: in.peer}, nil
		}
		if isOver(ctx) || err.Temporary() {
			c.mu.Lock()
			if c.sock == session {
				l.put(in) // it waits on
			}
			c.mu.Unlock()
			return nil, err.about("accept", l.name)
		}
		// its caller has gone, or its daemon
	}
}

// Addr returns "self:" and the endpoint.
func (l *Listener) Addr() net.Addr { return Addr("self:" + l.name) }
