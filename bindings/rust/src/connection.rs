// SPDX-License-Identifier: LGPL-2.1-or-later
//! The connection to the daemon.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::CString;
use std::future::Future;
use std::marker::PhantomPinned;
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::io::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::pin::Pin;
use std::ptr;
use std::sync::{Arc, Mutex};
use std::task::{self, Context, Poll};
use std::time::{Duration, Instant};

use crate::conn_stream::Listenings;
use crate::error::{Error, Failure, Result};
use crate::ffi::{self, errno};
use crate::message::{Draft, Message, Peeked, RawMessage};
use crate::options::{milliseconds, Options};
use crate::pending::{first_of, on_done, words, Handle, Outcome, Pending, WakerList};

/// A connection to the daemon of the domain that this program runs in.
///
/// It belongs to one thread at a time: it is [`Send`], but not [`Sync`], and whatever borrows it keeps it where it is. Dropping it
/// never blocks. Messages without an outcome end there: [`flush`](Connection::flush) before waits for them.
///
/// ```
/// fn sent<T: Send>() {}
/// sent::<xenmsg::Connection>();
/// sent::<xenmsg::OwnedMessage>();
/// ```
/// ```compile_fail
/// fn shared<T: Sync>() {}
/// shared::<xenmsg::Connection>();
/// ```
/// Things that came from it can't outlive it:
/// ```compile_fail
/// # use xenmsg::{Connection, USUAL};
/// let conn = Connection::open(USUAL).unwrap();
/// let message = conn.recv().unwrap();
/// drop(conn);
/// println!("{}", message.len());
/// ```
/// Nor can it go to another thread before they are dropped:
/// ```no_run
/// # use xenmsg::{Connection, USUAL};
/// let conn = Connection::open(USUAL).unwrap();
/// drop(conn.recv().unwrap());
/// std::thread::spawn(move || conn.process());
/// ```
/// ```compile_fail,E0505
/// # use xenmsg::{Connection, USUAL};
/// # let conn = Connection::open(USUAL).unwrap();
/// let _held = conn.recv().unwrap();
/// std::thread::spawn(move || conn.process());
/// ```
/// ```compile_fail,E0505
/// # use xenmsg::{Connection, USUAL};
/// # let conn = Connection::open(USUAL).unwrap();
/// let _held = conn.try_peek().unwrap();
/// std::thread::spawn(move || conn.process());
/// ```
/// ```compile_fail,E0505
/// # use xenmsg::{Connection, USUAL};
/// # let conn = Connection::open(USUAL).unwrap();
/// let _held = conn.begin_send("5:inbox", "", USUAL).unwrap();
/// std::thread::spawn(move || conn.process());
/// ```
/// ```compile_fail,E0505
/// # use xenmsg::{Connection, USUAL};
/// # let conn = Connection::open(USUAL).unwrap();
/// let _held = conn.begin_stream_connect("5:echo", USUAL).unwrap();
/// std::thread::spawn(move || conn.process());
/// ```
/// ```compile_fail,E0505
/// # use xenmsg::{Connection, USUAL};
/// # let conn = Connection::open(USUAL).unwrap();
/// let _held = conn.reserve("5:inbox", 8).unwrap();
/// std::thread::spawn(move || conn.process());
/// ```
/// ```compile_fail,E0505
/// # use xenmsg::{Connection, USUAL};
/// # let conn = Connection::open(USUAL).unwrap();
/// let _held = conn.stream_listen("echo", USUAL).unwrap();
/// std::thread::spawn(move || conn.process());
/// ```
/// ```compile_fail,E0505
/// # use xenmsg::{Connection, USUAL};
/// # let conn = Connection::open(USUAL).unwrap();
/// let _held = conn.watch("*", USUAL).unwrap();
/// std::thread::spawn(move || conn.process());
/// ```
pub struct Connection {
    inner: Box<Inner>,
}

/// Stays where it is, since callbacks know where that is.
struct Inner {
    raw: *mut ffi::xenmsg,
    to_wake: WakerList,
    listenings: Listenings, // freed when the connection is closed
    opening: Cell<Option<Handle>>,
    changes: Cell<VecDeque<Change>>,
    waker: Arc<Mutex<Awake>>,
    something_waits: Cell<bool>, // for recv() or accept(), and whoever waits knows
    _stays: PhantomPinned,       // so that its box isn't taken for the only way to it
}

// The library keeps nothing in threads, and whatever else refers to a connection borrows it, so it moves with all it has.
unsafe impl Send for Connection {}

/// A connection that another thread may wake, as long as it is there.
struct Awake(*mut ffi::xenmsg);

unsafe impl Send for Awake {}

/// Ends a connection's wait from any thread: [`Connection::waker`].
#[derive(Clone)]
pub struct WakeHandle(Arc<Mutex<Awake>>);

impl WakeHandle {
    /// Makes the connection's descriptor readable, and [`Connection::wait`] return. If the connection is gone, it does nothing.
    pub fn wake(&self) {
        if let Ok(awake) = self.0.lock() {
            if !awake.0.is_null() {
                unsafe { ffi::xenmsg_wake(awake.0) };
            }
        }
    }
}

impl std::task::Wake for WakeHandle {
    fn wake(self: Arc<Self>) {
        WakeHandle::wake(&self);
    }
}

/// A change of a connection: but for the last two of one that outlives its daemon ([`Options::reconnect`]).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The daemon is lost. Watches begin anew.
    Lost(Failure),
    /// There is a daemon again, and endpoints and watches are there again.
    Back,
    /// But not this endpoint ([`Failure::subject`]; a watch, if that is empty), which the new daemon refuses. Comes before `Back`.
    Refused(Failure),
    /// In any connection: this domain was restored or migrated, and has another number ([`Connection::domid`]).
    Renumbered,
    /// In any connection: so many subscribe to this topic of it, in all domains and on all hosts; at first nobody does.
    Listeners(String, u64),
    /// In any connection: this topic ([`Failure::subject`]) of an [`Options::pattern`](crate::Options::pattern) isn't subscribed to.
    NotSubscribed(Failure),
}

unsafe extern "C" fn on_change(userdata: *mut c_void, change: *const ffi::xenmsg_change) {
    let (inner, change) = (&*userdata.cast::<Inner>(), &*change);
    let failure = || Failure::new(change.error, None, words(change.reason), &words(change.endpoint));
    let mut changes = inner.changes.take();
    match change.kind {
        ffi::XENMSG_DAEMON_LOST => changes.push_back(Change::Lost(failure())),
        ffi::XENMSG_DAEMON_BACK => changes.push_back(Change::Back),
        ffi::XENMSG_RENUMBERED => changes.push_back(Change::Renumbered),
        ffi::XENMSG_DAEMON_REFUSED => changes.push_back(Change::Refused(failure())),
        ffi::XENMSG_LISTENERS => {
            let topic = words(change.endpoint);
            changes.retain(|other| !matches!(other, Change::Listeners(name, _) if *name == topic));
            changes.push_back(Change::Listeners(topic, change.listeners));
        }
        ffi::XENMSG_NOT_SUBSCRIBED => changes.push_back(Change::NotSubscribed(failure())),
        _ => {} // of a later library
    }
    inner.changes.set(changes);
    inner.to_wake.note_call();
    inner.to_wake.tell();
}

pub(crate) fn c_text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::invalid(text))
}

impl Connection {
    /// Connects, and waits until the daemon has answered: to the socket that `$XENMSG_SOCKET` names, or else to
    /// `/run/xenmsg/xenmsg.sock`.
    pub fn open(options: impl Into<Options>) -> Result<Connection> {
        Connection::new(None, |raw, path, _| unsafe { ffi::xenmsg_open(raw, path, &options.into().raw()) })
    }

    /// The same, with the path of the daemon's socket.
    pub fn open_at(path: impl AsRef<Path>, options: impl Into<Options>) -> Result<Connection> {
        Connection::new(Some(path.as_ref()), |raw, path, _| unsafe {
            ffi::xenmsg_open(raw, path, &options.into().raw())
        })
    }

    /// Begins to connect, without waiting; [`opened`](Connection::opened) tells what became of it.
    pub fn begin_open(path: Option<&Path>, options: impl Into<Options>) -> Result<Connection> {
        let given: Options = options.into();
        let options = given.raw();
        Connection::new(path, |raw, path, inner| {
            let begun = Handle::begin(&inner.to_wake, |beginning| unsafe {
                ffi::xenmsg_begin_open(raw, path, &options, Some(on_done), beginning.userdata)
            });
            match begun {
                Ok((handle, r)) => {
                    inner.opening.set(Some(handle));
                    r
                }
                Err(r) => r,
            }
        })
    }

    fn new(
        path: Option<&Path>,
        open: impl FnOnce(*mut *mut ffi::xenmsg, *const c_char, &Inner) -> c_int,
    ) -> Result<Connection> {
        let name = path.map_or(String::new(), |path| path.display().to_string());
        let path = match path {
            Some(path) => Some(CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::invalid(&name))?),
            None => None,
        };
        let mut inner = Box::new(Inner {
            raw: ptr::null_mut(),
            to_wake: WakerList::default(),
            listenings: Listenings::default(),
            opening: Cell::new(None),
            changes: Cell::default(),
            waker: Arc::new(Mutex::new(Awake(ptr::null_mut()))),
            something_waits: Cell::new(false),
            _stays: PhantomPinned,
        });
        let mut raw = ptr::null_mut();
        let r = open(&mut raw, path.as_ref().map_or(ptr::null(), |path| path.as_ptr()), &inner);
        if r < 0 {
            return Err(Error::Failed(Failure::of_opening(r, &name)));
        }
        inner.raw = raw;
        let place: *mut Inner = &mut *inner;
        unsafe { ffi::xenmsg_on_change(raw, Some(on_change), place.cast()) };
        if let Ok(mut awake) = inner.waker.lock() {
            awake.0 = raw;
        }
        Ok(Connection { inner })
    }

    /// The outcome of [`begin_open`](Connection::begin_open), once.
    pub fn opened(&self) -> Pending<'_, ()> {
        Pending::of(self, "", self.inner.opening.take())
    }

    pub(crate) fn raw(&self) -> *mut ffi::xenmsg {
        self.inner.raw
    }

    pub(crate) fn to_wake(&self) -> *const WakerList {
        &self.inner.to_wake
    }

    pub(crate) fn listenings(&self) -> &Listenings {
        &self.inner.listenings
    }

    /// Wakes whoever a callback has noted: when the library has returned.
    pub(crate) fn wake(&self) {
        self.inner.to_wake.wake();
    }

    pub(crate) fn failure(&self, r: c_int, subject: &str) -> Error {
        let reason = words(unsafe { ffi::xenmsg_reason(self.raw(), r) });
        Error::Failed(Failure::new(r, None, reason, subject))
    }

    pub(crate) fn checked(&self, r: c_int, subject: &str) -> Result<c_int> {
        self.inner.to_wake.wake();
        if r < 0 {
            return Err(self.failure(r, subject));
        }
        Ok(r)
    }

    // ---- its loop ----

    /// Does what can be done without waiting. A program with a loop calls it when the descriptor ([`AsRawFd`]) is readable, by level
    /// or by edge. Returns how much has come, as `xenmsg_process()` does.
    pub fn process(&self) -> Result<usize> {
        let r = unsafe { ffi::xenmsg_process(self.raw()) };
        self.inner.to_wake.tell(); // there may be room, which nothing counts
        Ok(self.checked(r, "")? as usize)
    }

    /// For a task that is polled, which would otherwise wake another one that wakes it, or itself: of what lies there, and nobody
    /// takes, all are told once.
    fn process_for_others(&self) -> Result<usize> {
        self.inner.to_wake.was_called();
        let r = unsafe { ffi::xenmsg_process(self.raw()) };
        let was_called = self.inner.to_wake.was_called();
        if r != 0 && (was_called || !self.inner.something_waits.get()) {
            self.inner.to_wake.tell();
        }
        self.inner.something_waits.set(r != 0 && !was_called);
        Ok(self.checked(r, "")? as usize)
    }

    /// Something was taken: what is behind it is new to whoever waits.
    pub(crate) fn taken<T>(&self, something: T) -> T {
        self.inner.something_waits.set(false);
        something
    }

    /// The same, but sleeps until there is something to do. Returns 0 if the time is up, or a [`WakeHandle`] was used.
    pub fn wait(&self, timeout: impl Into<Option<Duration>>) -> Result<usize> {
        let r = unsafe { ffi::xenmsg_wait(self.raw(), timeout.into().map_or(-1, milliseconds)) };
        self.inner.to_wake.tell();
        Ok(self.checked(r, "")? as usize)
    }

    /// Waits until everything that was begun has its outcome; messages wait meanwhile.
    pub fn flush(&self, timeout: impl Into<Option<Duration>>) -> Result<()> {
        let r = unsafe { ffi::xenmsg_flush(self.raw(), timeout.into().map_or(-1, milliseconds)) };
        self.checked(r, "").map(drop)
    }

    /// Sleeps until the descriptor is readable, whatever waits for `recv`. Returns false if a signal came.
    pub(crate) fn sleep(&self, timeout: Option<Duration>) -> bool {
        let mut descriptor =
            ffi::libc::pollfd { fd: self.as_raw_fd(), events: ffi::libc::POLLIN, revents: 0 };
        unsafe { ffi::libc::poll(&mut descriptor, 1, timeout.map_or(-1, milliseconds)) >= 0 }
    }

    /// Tries, and sleeps in between, until something has come or the time is up: `None`. Messages wait meanwhile.
    pub(crate) fn try_until<T>(
        &self,
        timeout: Option<Duration>,
        subject: &str,
        mut attempt: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let until = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(come) = attempt()? {
                return Ok(Some(come));
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            if !self.sleep(left) {
                return Err(self.failure(-errno::EINTR, subject));
            }
        }
    }

    /// Runs a future to its end, and processes the connection meanwhile: for a program without an executor, which begins several
    /// things and waits for all of them.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        let waker = task::Waker::from(Arc::new(self.waker()));
        let mut future = Box::pin(future);
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(value);
            }
            self.sleep(None);
            // Of a connection that is lost, what waits finds out when it is polled.
            if let Err(error) = self.process() {
                return match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(value) => Ok(value),
                    Poll::Pending => Err(error),
                };
            }
        }
    }

    /// For other threads, which end a wait here with it.
    pub fn waker(&self) -> WakeHandle {
        WakeHandle(self.inner.waker.clone())
    }

    /// The next change of a connection that outlives its daemon, which nobody has asked for yet.
    pub fn try_change(&self) -> Option<Change> {
        first_of(&self.inner.changes)
    }

    /// A future of what happens next to such a connection.
    pub fn next_change(&self) -> impl Future<Output = Result<Change>> + '_ {
        Coming::new(self, |conn| Ok(conn.try_change()))
    }

    /// The domain that this program runs in, as the daemon says.
    pub fn domid(&self) -> u32 {
        unsafe { ffi::xenmsg_domid(self.raw()) }
    }

    /// The size of the largest message that the local daemon accepts.
    pub fn max_message(&self) -> usize {
        unsafe { ffi::xenmsg_max_message(self.raw()) }
    }

    /// The size of the largest message that can be sent with [`Options::at_once`].
    pub fn max_at_once(&self) -> usize {
        unsafe { ffi::xenmsg_max_at_once(self.raw()) }
    }

    /// The name in traces (`xenmsg trace`) of the message that was sent last to this address, the same at each
    /// daemon on its way.
    pub fn sent_name(&self, address: &str) -> Result<String> {
        let to = c_text(address)?;
        let mut name = [0u8; ffi::XENMSG_NAME_SIZE];
        let r = unsafe { ffi::xenmsg_sent_name(self.raw(), to.as_ptr(), 0, name.as_mut_ptr().cast(), name.len()) };
        self.checked(r, address)?;
        Ok(unsafe { crate::message::text(name.as_ptr().cast()) }.to_string())
    }

    // ---- receiving ----

    /// Makes an endpoint, until [`unbind`](Connection::unbind) or the end of the connection. Takes a time-out,
    /// [`Options::only_messages`], [`Options::only_calls`], [`Options::lend`] and [`Options::shared`].
    pub fn bind(&self, endpoint: &str, options: impl Into<Options>) -> Result<()> {
        let name = c_text(endpoint)?;
        let given: Options = options.into();
        let options = given.raw();
        let r = unsafe { ffi::xenmsg_bind(self.raw(), name.as_ptr(), &options, None, ptr::null_mut()) };
        self.checked(r, endpoint).map(drop)
    }

    /// Begins to make an endpoint.
    pub fn begin_bind(&self, endpoint: &str, options: impl Into<Options>) -> Result<Pending<'_, ()>> {
        let name = c_text(endpoint)?;
        let given: Options = options.into();
        let options = given.raw();
        Pending::begin(self, endpoint, |to| unsafe {
            ffi::xenmsg_begin_bind(self.raw(), name.as_ptr(), &options, None, Some(on_done), to.userdata, to.op)
        })
    }

    /// Removes an endpoint, of messages or of streams. Messages that weren't taken aren't delivered, and their senders are told.
    pub fn unbind(&self, endpoint: &str) -> Result<()> {
        let name = c_text(endpoint)?;
        self.checked(unsafe { ffi::xenmsg_unbind(self.raw(), name.as_ptr()) }, endpoint).map(drop)
    }

    /// Begins to remove an endpoint, but lets go on what is in service: calls that were taken and not answered. Nothing new comes. Done
    /// when all callers have their answers.
    pub fn begin_drain(&self, endpoint: &str, options: impl Into<Options>) -> Result<Pending<'_, ()>> {
        Pending::named(self, endpoint, options, ffi::xenmsg_begin_drain)
    }

    /// Takes no messages until [`resume`](Connection::resume): they wait, and their senders for them. Outcomes, events, and that calls
    /// are withdrawn are told as always.
    pub fn pause(&self) {
        unsafe { ffi::xenmsg_pause(self.raw()) };
    }

    /// Goes on taking messages.
    pub fn resume(&self) {
        unsafe { ffi::xenmsg_resume(self.raw()) };
    }

    fn recv_for(&self, timeout_ms: c_int) -> Result<Option<Message<'_>>> {
        let mut message = ptr::null_mut();
        let r = unsafe { ffi::xenmsg_recv(self.raw(), &mut message, timeout_ms) };
        if r == -errno::EAGAIN || (r == -errno::ETIMEDOUT && timeout_ms >= 0) {
            self.inner.to_wake.wake();
            return Ok(None);
        }
        let message = if r == 0 { Some(self.taken(Message::new(RawMessage(message), self))) } else { None };
        self.checked(r, "")?;
        Ok(message)
    }

    /// The next message for any endpoint here, which makes it delivered. Messages that aren't taken wait, and hold their senders back.
    pub fn recv(&self) -> Result<Message<'_>> {
        loop {
            if let Some(message) = self.recv_for(-1)? {
                return Ok(message);
            }
        }
    }

    /// The same; `None` if there is none by then.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Option<Message<'_>>> {
        self.recv_for(milliseconds(timeout))
    }

    /// The same, without waiting.
    pub fn try_recv(&self) -> Result<Option<Message<'_>>> {
        self.recv_for(0)
    }

    /// A future of the next message. It takes one only when it returns it, so that none is lost with a future that is dropped.
    pub fn recv_async(&self) -> impl Future<Output = Result<Message<'_>>> + '_ {
        Coming::new(self, Connection::try_recv)
    }

    /// A copy of the next message, without taking it, for a program that does something with it before it counts as delivered:
    /// [`Peeked::take`] or [`Peeked::refuse`] say what becomes of it; what comes waits behind it. `None`: there is none. Only messages
    /// of endpoints that take no calls can be copied ([`Options::only_messages`]).
    pub fn try_peek(&self) -> Result<Option<Peeked<'_>>> {
        let mut message = ptr::null_mut();
        let r = unsafe { ffi::xenmsg_peek(self.raw(), &mut message) };
        if r == -errno::EAGAIN {
            self.inner.to_wake.wake();
            return Ok(None);
        }
        let copy = if r == 0 { Some(self.taken(Peeked::new(RawMessage(message), self))) } else { None };
        self.checked(r, "")?;
        Ok(copy)
    }

    /// A future of that.
    pub fn peek(&self) -> impl Future<Output = Result<Peeked<'_>>> + '_ {
        Coming::new(self, Connection::try_peek)
    }

    // ---- sending ----

    /// Sends a message, and returns when it was delivered, that is, taken by the receiving program; or says why it wasn't.
    pub fn send(&self, address: &str, data: impl AsRef<[u8]>, options: impl Into<Options>) -> Result<()> {
        let given: Options = options.into();
        let (to, data, options) = (c_text(address)?, data.as_ref(), given.raw());
        self.settled(address, |result| unsafe {
            ffi::xenmsg_send(self.raw(), to.as_ptr(), data.as_ptr().cast(), data.len(), &options, result)
        })
        .map(drop)
    }

    /// Begins to send. Messages to one address arrive in the order in which they were begun. While too much waits for this address
    /// it fails with [`Kind::Full`](crate::Kind): [`begin_room`](Connection::begin_room).
    pub fn begin_send(
        &self,
        address: &str,
        data: impl AsRef<[u8]>,
        options: impl Into<Options>,
    ) -> Result<Pending<'_, ()>> {
        let given: Options = options.into();
        let (name, data, options) = (c_text(address)?, data.as_ref(), given.raw());
        Pending::begin(self, address, |to| unsafe {
            let (conn, data, size) = (self.raw(), data.as_ptr().cast(), data.len());
            ffi::xenmsg_begin_send(conn, name.as_ptr(), data, size, &options, Some(on_done), to.userdata, to.op)
        })
    }

    /// Begins to wait until there is room for a message of this size, after [`Kind::Full`](crate::Kind); of
    /// [`Options::only_calls`], for a call.
    pub fn begin_room(&self, address: &str, size: usize, options: impl Into<Options>) -> Result<Pending<'_, ()>> {
        let name = c_text(address)?;
        let given: Options = options.into();
        let options = given.raw();
        Pending::begin(self, address, |to| unsafe {
            ffi::xenmsg_begin_await_room(self.raw(), name.as_ptr(), size, &options, Some(on_done), to.userdata, to.op)
        })
    }

    /// Memory for a message to be written where it is sent from; one at a time. Then [`Draft::commit`].
    pub fn reserve(&self, address: &str, size: usize) -> Result<Draft<'_>> {
        let name = c_text(address)?;
        let mut data = ptr::null_mut();
        let r = unsafe { ffi::xenmsg_reserve(self.raw(), name.as_ptr(), size, &mut data) };
        self.checked(r, address)?;
        Ok(Draft::new(self, data.cast(), size))
    }

    pub(crate) fn unreserve(&self) {
        unsafe { ffi::xenmsg_unreserve(self.raw()) }
    }

    // ---- calls ----

    /// Calls a program and waits for its reply. The program's own error is [`Error::Answered`](crate::Error::Answered); of any
    /// other one [`Error::fate`] says whether the request may have been carried out.
    pub fn call(&self, address: &str, data: impl AsRef<[u8]>, options: impl Into<Options>) -> Result<Message<'_>> {
        let given: Options = options.into();
        let (to, data, options) = (c_text(address)?, data.as_ref(), given.raw());
        let outcome = self.settled(address, |result| unsafe {
            ffi::xenmsg_call(self.raw(), to.as_ptr(), data.as_ptr().cast(), data.len(), &options, result)
        })?;
        outcome.into_reply(self).ok_or_else(|| Error::invalid(address))
    }

    /// Begins a call; thousands may be outstanding.
    pub fn begin_call(
        &self,
        address: &str,
        data: impl AsRef<[u8]>,
        options: impl Into<Options>,
    ) -> Result<Pending<'_, Message<'_>>> {
        let given: Options = options.into();
        let (name, data, options) = (c_text(address)?, data.as_ref(), given.raw());
        Pending::begin(self, address, |to| unsafe {
            let (conn, data, size) = (self.raw(), data.as_ptr().cast(), data.len());
            ffi::xenmsg_begin_call(conn, name.as_ptr(), data, size, &options, Some(on_done), to.userdata, to.op)
        })
    }

    /// For a function that returns what it also puts into the result.
    fn settled(&self, subject: &str, function: impl FnOnce(*mut ffi::xenmsg_result) -> c_int) -> Result<Outcome> {
        let mut result = MaybeUninit::<ffi::xenmsg_result>::zeroed();
        unsafe { (*result.as_mut_ptr()).stream = -1 };
        let r = function(result.as_mut_ptr());
        let outcome = unsafe { Outcome::take(result.assume_init_ref()) };
        self.inner.to_wake.wake();
        outcome.of_return(r).checked(subject)
    }

    // ---- questions ----

    /// Asks the daemon; the answer is JSON. `xenmsg.h` says what can be asked.
    pub fn begin_query(&self, what: &str, options: impl Into<Options>) -> Result<Pending<'_, String>> {
        Pending::named(self, what, options, ffi::xenmsg_begin_query)
    }

    /// The same, and waits for the answer.
    pub fn query(&self, what: &str, options: impl Into<Options>) -> Result<String> {
        self.begin_query(what, options)?.wait()
    }

    /// Measures a round trip to the daemon of a domain. The first one may have to make the link.
    pub fn begin_ping(&self, domain: &str, options: impl Into<Options>) -> Result<Pending<'_, Duration>> {
        Pending::named(self, domain, options, ffi::xenmsg_begin_ping)
    }

    /// The same, and waits for the answer.
    pub fn ping(&self, domain: &str, options: impl Into<Options>) -> Result<Duration> {
        self.begin_ping(domain, options)?.wait()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Ok(mut awake) = self.inner.waker.lock() {
            awake.0 = ptr::null_mut();
        }
        unsafe { ffi::xenmsg_close(self.raw()) };
        self.inner.to_wake.wake();
    }
}

impl AsRawFd for Connection {
    /// Readable whenever [`process`](Connection::process) has something to do; don't read or close it.
    fn as_raw_fd(&self) -> RawFd {
        unsafe { ffi::xenmsg_fd(self.raw()) }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        unsafe { BorrowedFd::borrow_raw(self.as_raw_fd()) }
    }
}

/// After a commit that has failed. After any other error its memory may be gone.
fn is_still_reserved(number: i32) -> bool {
    matches!(number, errno::EINVAL | errno::EAGAIN | errno::ENOBUFS | errno::ENOMEM)
}

impl<'c> Draft<'c> {
    /// Begins to send what was written. If there is no room now, it comes back with the error.
    #[allow(clippy::result_large_err)]
    pub fn commit(
        self,
        options: impl Into<Options>,
    ) -> std::result::Result<Pending<'c, ()>, (Error, Option<Draft<'c>>)> {
        let connection = self.connection();
        let given: Options = options.into();
        let options = given.raw();
        let begun = Pending::begin(connection, "", |to| unsafe {
            ffi::xenmsg_commit(connection.raw(), self.len(), &options, Some(on_done), to.userdata, to.op)
        });
        match begun {
            Ok(pending) => {
                self.committed();
                Ok(pending)
            }
            Err(error) => match &error {
                Error::Failed(failure) if is_still_reserved(failure.errno()) => Err((error, Some(self))),
                _ => Err((error, None)),
            },
        }
    }
}

/// A future of the next thing that comes to a connection.
pub(crate) struct Coming<'c, T> {
    connection: &'c Connection,
    take: Box<dyn FnMut(&'c Connection) -> Result<Option<T>> + 'c>,
}

impl<'c, T> Coming<'c, T> {
    pub(crate) fn new(
        connection: &'c Connection,
        take: impl FnMut(&'c Connection) -> Result<Option<T>> + 'c,
    ) -> Coming<'c, T> {
        Coming { connection, take: Box::new(take) }
    }
}

impl<T> Future for Coming<'_, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let connection = self.connection;
        if let Some(taken) = (self.take)(connection)? {
            return Poll::Ready(Ok(taken));
        }
        // Other tasks are woken for the bytes that were read for them just now.
        if connection.process_for_others()? > 0 {
            if let Some(taken) = (self.take)(connection)? {
                return Poll::Ready(Ok(taken));
            }
        }
        connection.inner.to_wake.wait(context.waker());
        Poll::Pending
    }
}
