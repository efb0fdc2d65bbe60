// SPDX-License-Identifier: LGPL-2.1-or-later

package xenmsg

import (
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// What goes over the socket: doc/protocol.md, whose sections the numbers in brackets are.

const (
	frameHello      = 1
	frameWelcome    = 2
	frameGoodbye    = 3
	frameOpen       = 16
	frameOpened     = 17
	frameData       = 18
	frameCredit     = 19
	frameFin        = 20
	frameReset      = 21
	frameCancel     = 22
	frameCancelled  = 23
	frameSender     = 24
	frameWithdraw   = 25
	frameReassigned = 26
	frameBind       = 32
	frameUnbind     = 33
	frameReply      = 39
	frameAccept     = 40
	frameIncoming   = 41
	frameDrain      = 42
	frameSelf       = 43
	frameSubscribe  = 44
	frameListeners  = 49

	kindMessage = 1
	kindCall    = 2
	kindStream  = 3

	typeMessage    = 0
	typeRequest    = 1
	typeReply      = 2
	typeError      = 3
	typeRefusal    = 4
	typeProperties = 128

	headerSize    = 16
	payloadMax    = 65536
	initialLimit  = 65536
	propertiesMax = 4096
	stateSent     = 0
	stateGivenUp  = 2
	refusedFlag   = 1
)

var le = binary.LittleEndian

func padded(size int) int { return (size + 7) &^ 7 }

func errProto(format string, arguments ...any) *Error {
	return &Error{Op: "protocol", Errno: syscall.EPROTO, Reason: fmt.Sprintf(format, arguments...)}
}

// A frame as it was received. [1]
type frame struct {
	kind    uint8
	channel uint32
	payload fields // of the buffer that it was found in
}

// nextFrame returns the first frame of a buffer and how many bytes it takes, 0 if it isn't whole.
func nextFrame(buffer []byte) (frame, int, *Error) {
	if len(buffer) < headerSize {
		return frame{}, 0, nil
	}
	length := le.Uint32(buffer)
	if length > payloadMax {
		return frame{}, 0, errProto("a frame of %d bytes", length)
	}
	size := headerSize + padded(int(length))
	if len(buffer) < size {
		return frame{}, 0, nil
	}
	if kind := buffer[4]; int(length) < least[kind] {
		return frame{}, 0, errProto("frame %d is too short", kind)
	}
	return frame{buffer[4], le.Uint32(buffer[8:]), buffer[headerSize : headerSize+int(length)]}, size, nil
}

func appendHeader(out []byte, kind uint8, messages int, channel uint32, length int) []byte {
	out = le.AppendUint32(out, uint32(length))
	out = le.AppendUint16(out, uint16(kind))
	out = le.AppendUint16(out, uint16(messages))
	return le.AppendUint64(out, uint64(channel))
}

func appendPadding(out []byte, size int) []byte {
	var zeros [8]byte
	return append(out, zeros[:padded(size)-size]...)
}

func appendFrame(out []byte, kind uint8, channel uint32, payload []byte) []byte {
	out = append(appendHeader(out, kind, 0, channel, len(payload)), payload...)
	return appendPadding(out, len(payload))
}

// appendU64 is a frame of one number, or two.
func appendU64(out []byte, kind uint8, channel uint32, numbers ...uint64) []byte {
	out = appendHeader(out, kind, 0, channel, 8*len(numbers))
	for _, number := range numbers {
		out = le.AppendUint64(out, number)
	}
	return out
}

func appendReset(out []byte, channel uint32, errno syscall.Errno, flags uint32, consumed, unsure uint64) []byte {
	return appendU64(out, frameReset, channel, uint64(errno)|uint64(flags)<<32, consumed, unsure)
}

func appendCancelled(out []byte, channel uint32, offset uint64, result syscall.Errno) []byte {
	out = appendHeader(out, frameCancelled, 0, channel, 12)
	return appendPadding(le.AppendUint32(le.AppendUint64(out, offset), uint32(result)), 12)
}

func appendOpen(out []byte, channel uint32, kind uint8, address string) []byte {
	var identity [20]byte
	identity[0] = kind
	out = appendHeader(out, frameOpen, 0, channel, len(identity)+len(address))
	return appendPadding(append(append(out, identity[:]...), address...), len(identity)+len(address))
}

func appendHello(out []byte, flags uint32) []byte {
	return appendU64(out, frameHello, 0, 1|uint64(flags)<<32)
}

// least is how long a payload from the daemon is at least: its fields, so that no decoder can fail. [3]
var least = [256]int{frameWelcome: 40, frameGoodbye: 4, frameOpen: 20, frameOpened: 20, frameCredit: 16, frameFin: 8,
	frameReset: 24, frameCancel: 8, frameCancelled: 12, frameWithdraw: 4, frameReassigned: 16,
	frameReply: 8, frameIncoming: 24, frameSelf: 4, frameListeners: 8, frameSender: 4}

// fields are what is left of a payload, or of a property.
type fields []byte

func (f *fields) take(size int) []byte {
	taken := (*f)[:size]
	*f = (*f)[size:]
	return taken
}

func (f *fields) u8() uint8            { return f.take(1)[0] }
func (f *fields) u32() uint32          { return le.Uint32(f.take(4)) }
func (f *fields) u64() uint64          { return le.Uint64(f.take(8)) }
func (f *fields) errno() syscall.Errno { return errnoOf(f.u32()) }

// text takes the text up to the next zero byte, or the end.
func (f *fields) text() string {
	text, rest, _ := strings.Cut(string(*f), "\x00")
	*f = []byte(rest)
	return text
}

func (f *fields) identity() Peer {
	return Peer{DomID: f.u32(), UID: f.u32(), GID: f.u32(), PID: f.u32()}
}

// peer is an identity and the texts behind it: the endpoint, and the names of domain and host.
func (f *fields) peer() Peer {
	peer := f.identity()
	peer.Endpoint, peer.Domain, peer.Host = f.text(), f.text(), f.text()
	return peer
}

type reset struct {
	errno            syscall.Errno
	refused          bool
	consumed, unsure uint64
}

// reset: an error that is none counts as EPROTO. [2]
func (f *fields) reset() reset {
	errno, flags := f.errno(), f.u32()
	if errno == 0 {
		errno = syscall.EPROTO
	}
	return reset{errno, flags&refusedFlag != 0, f.u64(), f.u64()}
}

// reply returns the result of a request, an error if it has failed. [3]
func (f *fields) reply() *Error {
	if errno := f.errno(); errno != 0 {
		f.take(4)
		return &Error{Errno: errno, Fate: NotDone, Reason: string(*f)}
	}
	f.take(4)
	return nil
}

type incomingStream struct {
	token uint64
	peer  Peer
}

// errnoOf keeps a number within what an error may be. [2]
func errnoOf(number uint32) syscall.Errno {
	if number > 4095 {
		return syscall.EPROTO
	}
	return syscall.Errno(number)
}

// ---- messages in the stream [2.1] ----

// properties are those of a message. [2.5]
type properties struct {
	deadline    time.Duration // 0: none
	trace, key  string
	notice      *Notice
	part        uint32
	isPart      bool
	moreParts   bool
	hasDeadline bool
}

const (
	propertyDeadline = 1
	propertyTrace    = 2
	propertyNotice   = 4
	propertyKey      = 5
	propertyPart     = 6
)

var leastOf = [...]int{propertyDeadline: 4, propertyNotice: 16, propertyPart: 8}

func isPrintable(text []byte) bool {
	for _, c := range text {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= 255
}

// decodeProperties takes the block at the beginning of a payload, and returns its length.
func decodeProperties(payload []byte) (p properties, length int, err *Error) {
	if len(payload) < 8 {
		return p, 0, errProto("no room for properties")
	}
	length = int(le.Uint16(payload))
	if length < 8 || length%8 != 0 || length > propertiesMax || length > len(payload) || le.Uint16(payload[2:]) != 0 {
		return p, 0, errProto("properties of %d bytes", length)
	}
	seen := 0
	for rest := payload[4:length]; len(rest) > 0; {
		if len(rest) < 4 {
			return p, 0, errProto("a property is too short")
		}
		size, kind := int(le.Uint16(rest)), int(le.Uint16(rest[2:]))
		if 4+size > len(rest) {
			return p, 0, errProto("a property is longer than its block")
		}
		if kind >= 1 && kind <= propertyPart {
			if seen&(1<<kind) != 0 {
				return p, 0, errProto("a property comes twice")
			}
			seen |= 1 << kind
		}
		if err := p.take(kind, rest[4:4+size]); err != nil {
			return p, 0, err
		}
		next := 4 + (size+3)&^3
		if next > len(rest) {
			return p, 0, errProto("a property has no padding")
		}
		rest = rest[next:]
	}
	return p, length, nil
}

func (p *properties) take(kind int, value []byte) *Error {
	f := fields(value)
	if kind <= propertyPart && len(f) < leastOf[kind] {
		return errProto("property %d is too short", kind)
	}
	switch kind {
	case propertyDeadline:
		p.deadline, p.hasDeadline = time.Duration(f.u32())*time.Millisecond, true
	case propertyTrace, propertyKey:
		if !isPrintable(value) {
			return errProto("a trace or key is none")
		}
		if kind == propertyTrace {
			p.trace = string(value)
		} else {
			p.key = string(value)
		}
	case propertyNotice:
		n := &Notice{Kind: NoticeKind(f.u8())}
		n.Unknown = f.u8()&1 != 0
		f.take(2)
		errno := f.errno()
		n.Count = f.u64()
		if n.Kind == Ended {
			n.Err = errno
		}
		if n.Kind == 0 || n.Count > 1<<62 {
			return errProto("a notice is none")
		}
		p.notice = n
	case propertyPart:
		p.part, p.moreParts, p.isPart = f.u32(), f.u32()&1 != 0, true
	}
	return nil
}

func appendProperty(block []byte, kind int, value []byte) []byte {
	block = le.AppendUint16(le.AppendUint16(block, uint16(len(value))), uint16(kind))
	block = append(block, value...)
	for len(block)%4 != 0 {
		block = append(block, 0)
	}
	return block
}

// encode returns the block; nil if there is nothing to say.
func (p *properties) encode() []byte {
	block := make([]byte, 4, 32)
	if p.hasDeadline {
		milliseconds := (p.deadline + time.Millisecond - 1) / time.Millisecond
		if milliseconds > 1<<32-1 {
			milliseconds = 1<<32 - 1
		}
		block = appendProperty(block, propertyDeadline, le.AppendUint32(nil, uint32(milliseconds)))
	}
	if p.trace != "" {
		block = appendProperty(block, propertyTrace, []byte(p.trace))
	}
	if p.key != "" {
		block = appendProperty(block, propertyKey, []byte(p.key))
	}
	if len(block) == 4 {
		return nil
	}
	if len(block)%8 != 0 {
		block = appendProperty(block, 0, nil)
	}
	le.PutUint16(block, uint16(len(block)))
	return block
}

// An incoming message, which may not be whole yet.
type incoming struct {
	properties
	size          int // of the payload, properties included
	kind, exit    uint8
	code          uint16
	data          []byte
	skipped       int  // bytes of one that is too large
	tooLarge      bool // it is skipped
	begin, end    uint64
	state, number uint32
}

// messageStream takes the messages out of the bytes of a channel.
type messageStream struct {
	received uint64
	current  *incoming // it, or nil between two
	it       incoming
	max      uint64
	skips    bool // what is larger, in place of an error
}

// next takes bytes until a message is whole, which it returns until the next one begins, or there are no more. The
// length of `bytes` is a multiple of 8.
func (s *messageStream) next(bytes []byte) (rest []byte, m *incoming, err *Error) {
	for len(bytes) >= 8 {
		m := s.current
		if m == nil {
			if m, err = s.begin(bytes); err != nil {
				return nil, nil, err
			}
			s.current = m
			bytes = s.pass(bytes, 8)
			continue
		}
		missing := padded(m.size) - padded(len(m.data)+m.skipped)
		if missing == 0 {
			m.state, m.number = le.Uint32(bytes), le.Uint32(bytes[4:])
			bytes = s.pass(bytes, 8)
			m.end, s.current = s.received, nil
			return bytes, m, s.finish(m)
		}
		if missing > len(bytes) {
			missing = len(bytes)
		}
		useful := m.size - len(m.data) - m.skipped
		if useful > missing {
			useful = missing
		}
		if m.tooLarge {
			m.skipped += useful
		} else {
			m.data = append(m.data, bytes[:useful]...)
		}
		bytes = s.pass(bytes, missing)
	}
	return nil, nil, nil
}

func (s *messageStream) pass(bytes []byte, count int) []byte {
	s.received += uint64(count)
	return bytes[count:]
}

// begin reads the head. Memory is taken as the bytes come: a size is only what somebody says.
func (s *messageStream) begin(bytes []byte) (*incoming, *Error) {
	m := &s.it
	*m = incoming{kind: bytes[4], exit: bytes[5], code: le.Uint16(bytes[6:]), begin: s.received}
	size := uint64(le.Uint32(bytes))
	most := s.max
	if m.kind&typeProperties != 0 {
		most += propertiesMax
	}
	m.tooLarge = size > most
	if m.tooLarge && !s.skips || size > 1<<31-16 {
		return nil, &Error{Op: "receive", Errno: syscall.EMSGSIZE}
	}
	m.size = int(size)
	if !m.tooLarge && size <= payloadMax {
		m.data = make([]byte, 0, size)
	}
	return m, nil
}

func (s *messageStream) finish(m *incoming) *Error {
	if m.state != stateSent && m.state != stateGivenUp {
		return errProto("the state of a message is %d", m.state)
	}
	if m.kind&typeProperties == 0 || m.tooLarge || m.state == stateGivenUp {
		return nil
	}
	p, length, err := decodeProperties(m.data)
	if err != nil {
		return err
	}
	m.properties, m.data, m.kind = p, m.data[length:], m.kind&^typeProperties
	if uint64(len(m.data)) > s.max {
		m.tooLarge, m.data = true, nil
		if !s.skips {
			return &Error{Op: "receive", Errno: syscall.EMSGSIZE}
		}
	}
	if m.notice != nil && len(m.data) != 0 {
		return errProto("a notice with a payload")
	}
	return nil
}
