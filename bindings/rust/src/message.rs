// SPDX-License-Identifier: LGPL-2.1-or-later
//! Messages that have come.

use std::cell::Cell;
use std::ffi::CStr;
use std::fmt;
use std::future::Future;
use std::io;
use std::mem::{self, ManuallyDrop};
use std::ops::{Deref, DerefMut};
use std::os::raw::{c_char, c_int, c_uint, c_void};
use std::pin::Pin;
use std::ptr;
use std::slice;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::{Error, Failure, Result};
use crate::ffi::{self, errno};
use crate::options::Options;
use crate::pending::{on_done, Pending, WakerList};
use crate::topic::{Notice, NoticeKind};
use crate::Connection;

/// Frees it, once.
pub(crate) struct RawMessage(pub *mut ffi::xenmsg_message);

impl Drop for RawMessage {
    fn drop(&mut self) {
        unsafe { ffi::xenmsg_message_free(self.0) }
    }
}

impl RawMessage {
    pub(crate) fn data(&self) -> &[u8] {
        unsafe { slice::from_raw_parts(ffi::xenmsg_message_data(self.0).cast(), ffi::xenmsg_message_size(self.0)) }
    }

    fn data_mut(&mut self) -> &mut [u8] {
        unsafe { slice::from_raw_parts_mut(ffi::xenmsg_message_data(self.0).cast(), ffi::xenmsg_message_size(self.0)) }
    }

    fn endpoint(&self) -> &str {
        unsafe { text(ffi::xenmsg_message_endpoint(self.0)) }
    }

    fn sender(&self) -> Sender<'_> {
        unsafe {
            let peer = ffi::xenmsg_message_sender(self.0);
            Sender {
                domid: ffi::xenmsg_peer_domid(peer),
                uid: ffi::xenmsg_peer_uid(peer),
                gid: ffi::xenmsg_peer_gid(peer),
                pid: ffi::xenmsg_peer_pid(peer),
                name: text(ffi::xenmsg_peer_domain_name(peer)),
                host: text(ffi::xenmsg_peer_host(peer)),
            }
        }
    }
}

/// Names of domains and hosts are theirs to choose; what is no UTF-8 there is no name.
/// The name in traces that a function of the library writes, if there is one.
pub(crate) fn name_of(write: impl FnOnce(*mut c_char, usize) -> c_int) -> Option<String> {
    let mut name = [0u8; ffi::XENMSG_NAME_SIZE];
    (write(name.as_mut_ptr().cast(), name.len()) == 0).then(|| unsafe { text(name.as_ptr().cast()) }.to_string())
}

pub(crate) unsafe fn text<'a>(text: *const c_char) -> &'a str {
    CStr::from_ptr(text).to_str().unwrap_or("")
}

/// The sender of a message. The domid comes from the hypervisor; uid, gid and pid are worth what that domain is worth, and of
/// another host all of it what that host is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sender<'m> {
    /// Its domain.
    pub domid: u32,
    /// Its user there.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process.
    pub pid: u32,
    /// The name of its domain, empty if the daemon doesn't know it.
    pub name: &'m str,
    /// The name of its host, empty for this one. A domid and a name mean another domain on each host.
    pub host: &'m str,
}

impl fmt::Display for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.host.is_empty() {
            write!(f, "{}/", self.host)?;
        }
        write!(f, "domain {}", self.domid)
    }
}

/// A message, a call, or the reply to one. It is its bytes ([`Deref`]), and is freed when it is dropped; a call that wasn't
/// answered by then is answered with an error. It can't outlive its connection, nor leave its thread: see [`Message::into_owned`].
///
/// ```compile_fail
/// fn sent<T: Send>() {}
/// sent::<xenmsg::Message<'static>>();
/// ```
pub struct Message<'c> {
    raw: RawMessage, // freed first, and then nothing calls back any more
    connection: &'c Connection,
    withdrawn: OnceBox<Withdrawal>,
}

/// A callback finds it.
struct Withdrawal {
    told: Cell<bool>,
    waker: Cell<Option<Waker>>,
    /// The connection's, which outlives its messages.
    to_wake: *const WakerList,
}

unsafe extern "C" fn on_withdrawn(userdata: *mut c_void, _: *mut ffi::xenmsg_message) {
    let withdrawal = &*userdata.cast::<Withdrawal>();
    (*withdrawal.to_wake).note_call();
    withdrawal.told.set(true);
    if let Some(waker) = withdrawal.waker.take() {
        (*withdrawal.to_wake).push(waker);
    }
}

/// A box that is made when it is wanted, and stays where it is.
struct OnceBox<T>(Cell<*mut T>);

impl<T> OnceBox<T> {
    fn get(&self, make: impl FnOnce() -> T) -> (&T, bool) {
        let is_new = self.0.get().is_null();
        if is_new {
            self.0.set(Box::into_raw(Box::new(make())));
        }
        (unsafe { &*self.0.get() }, is_new)
    }
}

impl<T> Drop for OnceBox<T> {
    fn drop(&mut self) {
        if !self.0.get().is_null() {
            drop(unsafe { Box::from_raw(self.0.get()) });
        }
    }
}

/// A future that is there when the answer to a call is no longer wanted: [`Message::withdrawn`].
struct Withdrawn<'m> {
    message: &'m Message<'m>,
}

impl Future for Withdrawn<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let message = self.message;
        let (withdrawal, is_new) = message.withdrawn.get(|| Withdrawal {
            told: Cell::new(false),
            waker: Cell::new(None),
            to_wake: message.connection.to_wake(),
        });
        if is_new {
            let place: *const Withdrawal = withdrawal;
            let r = unsafe {
                ffi::xenmsg_message_on_withdrawn(message.raw.0, Some(on_withdrawn), place as *mut c_void)
            };
            withdrawal.told.set(r == -errno::ECANCELED);
        }
        if withdrawal.told.get() {
            return Poll::Ready(());
        }
        withdrawal.waker.set(Some(context.waker().clone()));
        Poll::Pending
    }
}

impl<'c> Message<'c> {
    pub(crate) fn new(raw: RawMessage, connection: &'c Connection) -> Message<'c> {
        Message { raw, connection, withdrawn: OnceBox(Cell::new(ptr::null_mut())) }
    }

    /// The endpoint that it was sent to; empty of a reply.
    pub fn endpoint(&self) -> &str {
        self.raw.endpoint()
    }

    /// Its sender; of a reply the program that was called, as it was when its first call reached it.
    pub fn sender(&self) -> Sender<'_> {
        self.raw.sender()
    }

    /// Whether it is a call, and somebody still waits for its answer, as far as the connection has read.
    pub fn wants_reply(&self) -> bool {
        unsafe { ffi::xenmsg_message_wants_reply(self.raw.0) != 0 }
    }

    /// For how long the answer to a call is still wanted, as its caller's time-out says; `None`: that isn't known. This suits as the
    /// time-out of what the server calls in turn.
    pub fn time_left(&self) -> Option<Duration> {
        let left = unsafe { ffi::xenmsg_message_time_left(self.raw.0) };
        u64::try_from(left).ok().map(Duration::from_millis)
    }

    /// The trace that its sender has given ([`Options::trace`]), as trustworthy as the sender; empty if there is none.
    pub fn trace(&self) -> &str {
        unsafe { text(ffi::xenmsg_message_trace(self.raw.0)) }
    }

    /// Its name in traces (`xenmsg trace`), as its sender has it from
    /// [`Connection::sent_name`](crate::Connection::sent_name); `None`: it has no name here.
    pub fn name(&self) -> Option<String> {
        name_of(|name, size| unsafe { ffi::xenmsg_message_name(self.raw.0, name, size) })
    }

    /// The key of a message from a topic, as its publisher says; empty if it has none.
    pub fn key(&self) -> &str {
        unsafe { text(ffi::xenmsg_message_key(self.raw.0)) }
    }

    /// The daemons' notice in place of a topic's message; none: it is a message ([`Connection::subscribe`]).
    pub fn notice(&self) -> Option<Notice> {
        let told = unsafe { ffi::xenmsg_message_notice(self.raw.0).as_ref() }?;
        Some(Notice {
            kind: NoticeKind::of(told.kind),
            messages: told.count,
            unknown: told.unknown != 0,
            errno: -told.error,
        })
    }

    /// Its bytes, to be written to. They stay in this thread, since the library may move them while it is called
    /// ([`Options::lend`]); those of a message that was detached may be written to anywhere.
    ///
    /// ```compile_fail
    /// # use xenmsg::{Connection, USUAL};
    /// # let conn = Connection::open(USUAL).unwrap();
    /// let mut message = conn.recv().unwrap();
    /// let bytes = message.cells();
    /// std::thread::scope(|scope| scope.spawn(|| bytes[0].set(1)));
    /// ```
    pub fn cells(&mut self) -> &[Cell<u8>] {
        Cell::from_mut(self.raw.data_mut()).as_slice_of_cells()
    }

    /// A future that is there when the answer to a call is no longer wanted: the caller's time is up, it has withdrawn the call, or
    /// has died. It reaches one that is paused, too. For a message that wants no answer it never comes.
    pub fn withdrawn(&self) -> impl Future<Output = ()> + '_ {
        Withdrawn { message: self }
    }

    /// Begins to wait until there is room for an answer of this size, after [`Kind::Full`](crate::Kind).
    pub fn begin_reply_room(&self, size: usize, options: impl Into<Options>) -> Result<Pending<'c, ()>> {
        let given: Options = options.into();
        let options = given.raw();
        Pending::begin(self.connection, self.endpoint(), |to| unsafe {
            ffi::xenmsg_begin_await_reply_room(self.raw.0, size, &options, Some(on_done), to.userdata, to.op)
        })
    }

    /// Answers a call, at any time and in any order. It fails with [`Kind::Full`](crate::Kind) while the caller doesn't read
    /// ([`begin_reply_room`](Message::begin_reply_room)), and with [`Kind::Cancelled`](crate::Kind) if nobody waits for it any more.
    pub fn reply(&self, data: impl AsRef<[u8]>) -> Result<()> {
        let data = data.as_ref();
        self.answered(unsafe { ffi::xenmsg_reply(self.raw.0, data.as_ptr().cast(), data.len()) })
    }

    /// Answers a call with an error of the program's own, from 1: the caller's `call` ends in
    /// [`Error::Answered`](crate::Error::Answered) with this code and these data.
    pub fn reply_error(&self, code: u16, data: impl AsRef<[u8]>) -> Result<()> {
        let data = data.as_ref();
        self.answered(unsafe {
            ffi::xenmsg_reply_error(self.raw.0, c_uint::from(code), data.as_ptr().cast(), data.len())
        })
    }

    /// Answers a call with how the command has ended that was run for it, from 1.
    pub fn reply_exit_status(&self, status: u8) -> Result<()> {
        self.answered(unsafe { ffi::xenmsg_reply_exit_status(self.raw.0, c_int::from(status)) })
    }

    fn answered(&self, r: c_int) -> Result<()> {
        if r < 0 {
            return Err(Error::Failed(Failure::new(r, None, String::new(), self.endpoint())));
        }
        Ok(())
    }

    /// Takes it out of its connection: another thread may use it from now on, and it outlives the connection. Fails of a call that
    /// wasn't answered, which needs its connection, and gives it back.
    pub fn into_owned(self) -> std::result::Result<OwnedMessage, (Error, Message<'c>)> {
        let r = unsafe { ffi::xenmsg_message_detach(self.raw.0) };
        if r < 0 {
            return Err((Error::Failed(Failure::new(r, None, String::new(), self.endpoint())), self));
        }
        let left = ManuallyDrop::new(self);
        let (raw, withdrawn) = unsafe { (ptr::read(&left.raw), ptr::read(&left.withdrawn)) };
        drop(withdrawn);
        Ok(OwnedMessage { raw })
    }
}

/// What holds a message is its bytes.
macro_rules! is_its_bytes {
    ($($holder:ty),*) => { $(
        impl Deref for $holder {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                self.raw.data()
            }
        }

        impl AsRef<[u8]> for $holder {
            fn as_ref(&self) -> &[u8] {
                self
            }
        }

        impl fmt::Debug for $holder {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} bytes to {} from {}", self.len(), self.endpoint(), self.sender())
            }
        }
    )* };
}

// What they hold calls into the connection when it is dropped. A `Drop` of their own lets the compiler keep the connection where it
// is until then: without one, only what is used explicitly counts.
impl Drop for Message<'_> {
    fn drop(&mut self) {}
}

impl Drop for Peeked<'_> {
    fn drop(&mut self) {}
}

is_its_bytes!(Message<'_>, OwnedMessage, Peeked<'_>);

/// A message of no connection any more, for any thread.
pub struct OwnedMessage {
    raw: RawMessage,
}

// `xenmsg_message_detach` promises that another thread may use and free it. Not Sync: it promises no two at a time.
unsafe impl Send for OwnedMessage {}

impl OwnedMessage {
    /// The endpoint that it was sent to.
    pub fn endpoint(&self) -> &str {
        self.raw.endpoint()
    }

    /// Its sender.
    pub fn sender(&self) -> Sender<'_> {
        self.raw.sender()
    }
}

impl DerefMut for OwnedMessage {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.raw.data_mut()
    }
}

/// A copy of the message that comes next, which isn't taken: [`Connection::try_peek`]. It is its bytes. Dropped, it leaves the message
/// where it is, as the next one.
pub struct Peeked<'c> {
    raw: RawMessage,
    connection: &'c Connection,
}

impl<'c> Peeked<'c> {
    pub(crate) fn new(raw: RawMessage, connection: &'c Connection) -> Peeked<'c> {
        Peeked { raw, connection }
    }

    /// The endpoint that it was sent to.
    pub fn endpoint(&self) -> &str {
        self.raw.endpoint()
    }

    /// Its sender.
    pub fn sender(&self) -> Sender<'_> {
        self.raw.sender()
    }

    /// Takes the message, which makes it delivered. Fails with [`Kind::Cancelled`](crate::Kind) if it isn't there any more: its sender has
    /// withdrawn it, or gone.
    pub fn take(self) -> Result<()> {
        let r = unsafe { ffi::xenmsg_take(self.connection.raw(), self.raw.0) };
        self.connection.checked(r, self.endpoint()).map(drop)
    }

    /// Gives it back: it isn't delivered, and its sender gets [`Error::Answered`](crate::Error::Answered) with this code, from 1 to 4095;
    /// what it has sent behind that and wasn't taken ends, too. Fails as [`take`](Peeked::take).
    pub fn refuse(self, code: u16) -> Result<()> {
        let r = unsafe { ffi::xenmsg_refuse(self.connection.raw(), self.raw.0, c_uint::from(code)) };
        self.connection.checked(r, self.endpoint()).map(drop)
    }
}

/// A message that is written where it is sent from, which saves a copy: [`Connection::reserve`]. It is written from its beginning on
/// ([`Write`](io::Write)), or anywhere ([`Draft::cells`]). A draft that isn't committed is given up.
///
/// ```no_run
/// # use std::io::Write;
/// # use xenmsg::{Connection, USUAL};
/// # fn f(conn: Connection) -> std::io::Result<()> {
/// let mut draft = conn.reserve("5:inbox", 50000)?;
/// writeln!(draft, "{} is here", conn.domid())?;
/// draft.commit(USUAL).map_err(|(error, _)| error)?.wait()?;
/// # Ok(()) }
/// ```
pub struct Draft<'c> {
    connection: &'c Connection,
    data: *mut u8,
    size: usize,
    written: usize, // what lies behind that is of any content, and isn't looked at
}

impl<'c> Draft<'c> {
    pub(crate) fn new(connection: &'c Connection, data: *mut u8, size: usize) -> Draft<'c> {
        Draft { connection, data, size, written: 0 }
    }

    /// How much was reserved.
    pub fn capacity(&self) -> usize {
        self.size
    }

    /// How much was written.
    pub fn len(&self) -> usize {
        self.written
    }

    /// Whether nothing was.
    pub fn is_empty(&self) -> bool {
        self.written == 0
    }

    /// Leaves only the first bytes of what was written.
    pub fn truncate(&mut self, size: usize) {
        self.written = self.written.min(size);
    }

    /// All of it, to be written to anywhere; what wasn't written is 0, and counts as written. The bytes stay in this thread, since
    /// the library may move them while it is called.
    ///
    /// ```compile_fail
    /// # use xenmsg::{Connection, USUAL};
    /// # let conn = Connection::open(USUAL).unwrap();
    /// let mut draft = conn.reserve("5:inbox", 100).unwrap();
    /// let bytes = draft.cells();
    /// std::thread::scope(|scope| scope.spawn(|| bytes[0].set(1)));
    /// ```
    pub fn cells(&mut self) -> &[Cell<u8>] {
        unsafe {
            ptr::write_bytes(self.data.add(self.written), 0, self.size - self.written);
            self.written = self.size;
            slice::from_raw_parts(self.data.cast(), self.size)
        }
    }

    pub(crate) fn connection(&self) -> &'c Connection {
        self.connection
    }

    /// The library has it now, and nothing is left to give up.
    pub(crate) fn committed(self) {
        mem::forget(self);
    }
}

/// Behind what was written, as far as there is room.
impl io::Write for Draft<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let size = data.len().min(self.size - self.written);
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.data.add(self.written), size) };
        self.written += size;
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        self.connection.unreserve();
    }
}
