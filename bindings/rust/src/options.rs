// SPDX-License-Identifier: LGPL-2.1-or-later
//! How something is to be done.

use std::os::raw::{c_char, c_int, c_uint};
use std::time::Duration;

use crate::ffi;
use crate::topic::Retain;

/// How something is to be done. Where a function takes them, a [`Duration`] is a time-out, and [`USUAL`] the usual, which is also
/// `Options::default()`. Each says of what it is; where it means nothing, it is refused ([`Kind::Invalid`](crate::Kind)).
///
/// ```no_run
/// # use std::time::Duration;
/// # use xenmsg::{Connection, Options, USUAL};
/// # fn f() -> xenmsg::Result<()> {
/// let conn = Connection::open(USUAL)?;
/// conn.send("5:inbox", b"hello", USUAL)?;
/// conn.send("5:inbox", b"in time", Duration::from_secs(2))?;
/// conn.bind("inbox", Options::usual().only_messages().lend())?;
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Options {
    timeout_ms: c_int,
    flags: c_uint,
    keys: c_uint,
    queue: c_uint,
    trace: Text,
    key: Text,
}

const TEXT_MOST: usize = 255;

/// Ended by 0; the first is 0: none.
type Text = [u8; TEXT_MOST + 1];

const NO_TEXT: Text = [0; TEXT_MOST + 1];

/// A number that doesn't fit becomes one that the library refuses.
fn text_of(text: &str) -> Text {
    let fits = !text.is_empty() && text.len() <= TEXT_MOST && !text.contains('\0');
    let given = if fits { text.as_bytes() } else { b"\n" };
    let mut text = NO_TEXT;
    text[..given.len()].copy_from_slice(given);
    text
}

fn raw_text(text: &Text) -> *const c_char {
    if text[0] == 0 {
        std::ptr::null()
    } else {
        text.as_ptr().cast()
    }
}

/// Everything as usual: sending, calling and connecting have no end, what the daemon alone does has 30 s, opening 10 s.
pub const USUAL: Options = Options::usual();

impl Options {
    /// See [`USUAL`].
    pub const fn usual() -> Options {
        Options { timeout_ms: ffi::XENMSG_USUAL_MS, flags: 0, keys: 0, queue: 0, trace: NO_TEXT, key: NO_TEXT }
    }

    /// An operation that isn't done by then is withdrawn; 0: it is only tried.
    pub fn timeout(self, timeout: Duration) -> Options {
        Options { timeout_ms: milliseconds(timeout), ..self }
    }

    /// It is waited for without end.
    pub const fn forever(self) -> Options {
        Options { timeout_ms: -1, ..self }
    }

    const fn with(self, flag: c_uint) -> Options {
        Options { flags: self.flags | flag, ..self }
    }

    /// For an endpoint: it takes no calls.
    pub const fn only_messages(self) -> Options {
        self.with(ffi::XENMSG_ONLY_MESSAGES)
    }

    /// For an endpoint: it takes nothing but calls.
    pub const fn only_calls(self) -> Options {
        self.with(ffi::XENMSG_ONLY_CALLS)
    }

    /// For an endpoint: messages may stay in the memory that is shared with the daemon, which saves a copy. For programs that free
    /// a message before they wait for the next.
    pub const fn lend(self) -> Options {
        self.with(ffi::XENMSG_LEND)
    }

    /// For an endpoint, of messages or of streams: other programs of this user that say so, too, may have it beside this one. All that one
    /// sender sends there goes to the one with the least to do, and what that hasn't taken when it ends, to another one.
    pub const fn shared(self) -> Options {
        self.with(ffi::XENMSG_SHARED)
    }

    pub(crate) const fn as_topic(self, retain: Retain) -> Options {
        const TOPIC: c_uint = ffi::XENMSG_TOPIC | ffi::XENMSG_COUNT_LISTENERS;
        match retain {
            Retain::Nothing => self.with(TOPIC),
            Retain::Last => self.with(TOPIC | ffi::XENMSG_RETAIN),
            Retain::Keys(keys) => {
                Options { keys: keys as c_uint, ..self.with(TOPIC | ffi::XENMSG_RETAIN) }
            }
        }
    }

    /// For a subscription: so many messages may wait at a time, up to 65535; beyond that the oldest are lost, and that is told in its
    /// place. 0: as many as the daemon has room for.
    pub const fn queue(self, messages: u32) -> Options {
        Options { queue: messages, ..self }
    }

    /// For a subscription with [`queue`](Options::queue): beyond that the newest are lost.
    pub const fn keep_oldest(self) -> Options {
        self.with(ffi::XENMSG_KEEP_OLDEST)
    }

    /// For a subscription: its domain is a shell pattern (`"*:news"`). All such topics are subscribed to, each by its address, from which
    /// its messages come, as they come and go. [`Change::NotSubscribed`](crate::Change) tells of an endpoint that is no topic, or refuses.
    pub const fn pattern(self) -> Options {
        self.with(ffi::XENMSG_PATTERN)
    }

    /// For an endpoint for streams: they may come from other hosts, too ([`Peer::host`](crate::Peer)).
    pub const fn from_hosts(self) -> Options {
        self.with(ffi::XENMSG_FROM_HOSTS)
    }

    /// For a message: it is handed to the daemon now and as a whole, or not sent ([`Kind::Full`](crate::Kind)).
    pub const fn at_once(self) -> Options {
        self.with(ffi::XENMSG_AT_ONCE)
    }

    /// For a message, call or stream: it waits, within its time-out, until its receiver is there, instead of ending with
    /// [`Kind::NotFound`](crate::Kind) or [`Kind::DomainDown`](crate::Kind). Messages for one address are sent in their order.
    pub const fn wait(self) -> Options {
        self.with(ffi::XENMSG_WAIT)
    }

    /// For a connection: it outlives its daemon. When that ends, messages under way end with what is known; then the connection
    /// looks for the next daemon by itself, binds its endpoints there, and sends what was begun meanwhile.
    /// [`Connection::next_change`](crate::Connection::next_change) tells.
    pub const fn reconnect(self) -> Options {
        self.with(ffi::XENMSG_RECONNECT)
    }

    /// For a message or call: where it belongs in a trace, which its receiver is told ([`Message::trace`](crate::Message::trace)); 1 to
    /// 255 printable characters of ASCII, by custom a `traceparent`. Another one is refused where it is used.
    pub fn trace(self, trace: &str) -> Options {
        Options { trace: text_of(trace), ..self }
    }

    /// For a message to a topic: whose value it is, which subscribers are told ([`Message::key`](crate::Message::key)); 1 to 255 printable
    /// characters of ASCII, as a trace.
    pub fn key(self, key: &str) -> Options {
        Options { key: text_of(key), ..self }
    }

    /// Valid as long as these options are where they are.
    pub(crate) fn raw(&self) -> ffi::xenmsg_options {
        ffi::xenmsg_options {
            size: std::mem::size_of::<ffi::xenmsg_options>(),
            timeout_ms: self.timeout_ms,
            flags: self.flags,
            trace: raw_text(&self.trace),
            key: raw_text(&self.key),
            keys: self.keys,
            queue: self.queue,
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        USUAL
    }
}

impl From<Duration> for Options {
    fn from(timeout: Duration) -> Options {
        USUAL.timeout(timeout)
    }
}

/// As the library has it, rounded up.
pub(crate) fn milliseconds(time: Duration) -> c_int {
    let rounded = time.as_nanos() / 1_000_000 + u128::from(time.as_nanos() % 1_000_000 != 0);
    c_int::try_from(rounded).unwrap_or(c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_time_is_no_bare_attempt() {
        assert_eq!(milliseconds(Duration::ZERO), 0);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(1500)), 2);
        assert_eq!(milliseconds(Duration::from_secs(1 << 40)), c_int::MAX);
    }

    #[test]
    fn options_add_up() {
        let raw = Options::usual().only_calls().lend().timeout(Duration::from_secs(1)).raw();
        assert_eq!((raw.timeout_ms, raw.flags), (1000, ffi::XENMSG_ONLY_CALLS | ffi::XENMSG_LEND));
        assert_eq!(USUAL.raw().timeout_ms, ffi::XENMSG_USUAL_MS);
        assert_eq!(USUAL.forever().raw().timeout_ms, -1);
    }
}
