// SPDX-License-Identifier: LGPL-2.1-or-later
//! Byte streams within the connection (`xenmsg-stream.h`): no socket each, and one descriptor for all.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, Read, Write};
use std::mem::size_of;
use std::os::raw::{c_int, c_void};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::connection::{c_text, Coming};
use crate::error::{Error, Failure, Result};
use crate::ffi::{self, errno};
use crate::options::Options;
use crate::pending::{first_of, on_done, Handle, Pending, WakerList};
use crate::stream::Peer;
use crate::Connection;

/// The callbacks of a stream find this, and note there.
struct State {
    opened: Cell<bool>,
    ended: Cell<bool>,
    error: Cell<c_int>, // why it is broken
    cause: Cell<c_int>, // why we break it
    /// The reader within this call: bytes that come go there.
    place: Cell<(*mut u8, usize)>,
    opener: Cell<Option<Waker>>,
    reader: Cell<Option<Waker>>,
    writer: Cell<Option<Waker>>,
    /// The connection's, which outlives its streams.
    to_wake: *const WakerList,
}

impl State {
    fn new(to_wake: *const WakerList, opened: bool) -> *mut State {
        Box::into_raw(Box::new(State {
            opened: Cell::new(opened),
            ended: Cell::new(false),
            error: Cell::new(0),
            cause: Cell::new(0),
            place: Cell::new((ptr::null_mut(), 0)),
            opener: Cell::new(None),
            reader: Cell::new(None),
            writer: Cell::new(None),
            to_wake,
        }))
    }

    /// Within a callback.
    unsafe fn tell(&self, whom: &[&Cell<Option<Waker>>]) {
        (*self.to_wake).note_call();
        for waker in whom.iter().filter_map(|waker| waker.take()) {
            (*self.to_wake).push(waker);
        }
    }

    fn broken(&self) -> Option<io::Error> {
        match self.error.get() {
            0 => None,
            error => Some(io::Error::from_raw_os_error(error.saturating_abs())),
        }
    }
}

unsafe extern "C" fn on_opened(userdata: *mut c_void, _: *mut ffi::xenmsg_stream) {
    let state = &*userdata.cast::<State>();
    state.opened.set(true);
    state.tell(&[&state.opener, &state.writer]);
}

unsafe extern "C" fn on_data(
    userdata: *mut c_void,
    _: *mut ffi::xenmsg_stream,
    data: *const c_void,
    size: usize,
) -> usize {
    let state = &*userdata.cast::<State>();
    let (place, left) = state.place.get();
    let taken = size.min(left);
    if taken > 0 {
        ptr::copy_nonoverlapping(data.cast::<u8>(), place, taken);
        state.place.set((place.add(taken), left - taken));
    } else {
        state.tell(&[&state.reader]);
    }
    taken
}

unsafe extern "C" fn on_ended(userdata: *mut c_void, _: *mut ffi::xenmsg_stream) {
    let state = &*userdata.cast::<State>();
    state.ended.set(true);
    state.tell(&[&state.reader]);
}

unsafe extern "C" fn on_room(userdata: *mut c_void, _: *mut ffi::xenmsg_stream) {
    let state = &*userdata.cast::<State>();
    state.tell(&[&state.writer]);
}

unsafe extern "C" fn on_broken(userdata: *mut c_void, _: *mut ffi::xenmsg_stream, error: c_int) {
    let state = &*userdata.cast::<State>();
    state.error.set(error);
    state.tell(&[&state.opener, &state.reader, &state.writer]);
}

const CALLBACKS: ffi::xenmsg_stream_callbacks = ffi::xenmsg_stream_callbacks {
    size: size_of::<ffi::xenmsg_stream_callbacks>(),
    opened: Some(on_opened),
    data: Some(on_data),
    ended: Some(on_ended),
    room: Some(on_room),
    broken: Some(on_broken),
};

/// A stream of the library's, and what its callbacks find. It may be dropped after its connection.
struct RawStream {
    raw: *mut ffi::xenmsg_stream,
    state: *mut State,
}

impl Drop for RawStream {
    fn drop(&mut self) {
        unsafe {
            match (*self.state).cause.get() {
                0 => ffi::xenmsg_stream_close(self.raw), // no callback follows
                cause => ffi::xenmsg_stream_break(self.raw, cause),
            }
            drop(Box::from_raw(self.state));
        }
    }
}

/// A future of what a function of this module polls for.
struct Polled<F>(F);

impl<T, F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin> Future for Polled<F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        (self.0)(context)
    }
}

fn is_not_yet<T>(done: &io::Result<T>) -> bool {
    matches!(done, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

/// A byte stream within the connection, from [`Connection::stream_connect`] or a [`Listener`]: at twice the rate of a socket, and
/// without descriptors. The other end needn't know.
///
/// [`Read`] and [`Write`] wait, and process the connection meanwhile; `try_…` don't; `poll_…` and [`read_some`](Stream::read_some)
/// wake a task when the connection is processed. A program that doesn't read lets the other side wait. As of a socket, several may use one
/// ([`Read`] is there for `&Stream`, too), but of those who read, and of those who write, only the last one is woken.
///
/// Dropped before both directions have ended ([`Stream::end`], and reading to the end) it breaks: the other side gets `ECONNRESET`, and
/// what is on the way may be lost.
///
/// ```no_run
/// # use std::io::{Read, Write};
/// # use xenmsg::{Connection, USUAL};
/// # fn f(conn: Connection) -> std::io::Result<()> {
/// let mut stream = conn.stream_connect("5:echo", USUAL)?;
/// stream.write_all(b"hello")?;
/// stream.end()?;
/// let mut text = String::new();
/// stream.read_to_string(&mut text)?;
/// # Ok(()) }
/// ```
/// It stays with its connection, and in its thread:
/// ```compile_fail
/// # use xenmsg::{Connection, USUAL};
/// let conn = Connection::open(USUAL).unwrap();
/// let stream = conn.stream_connect("5:echo", USUAL).unwrap();
/// drop(conn);
/// stream.end();
/// ```
/// ```compile_fail
/// fn sent<T: Send>() {}
/// sent::<xenmsg::Stream<'static>>();
/// ```
/// ```compile_fail
/// fn sent<T: Send>() {}
/// sent::<xenmsg::Listener<'static>>();
/// ```
pub struct Stream<'c> {
    connection: &'c Connection,
    stream: RawStream,
    address: String,
}

// So that the compiler keeps the connection where it is until then (message.rs).
impl Drop for Stream<'_> {
    fn drop(&mut self) {}
}

impl<'c> Stream<'c> {
    fn state(&self) -> &State {
        unsafe { &*self.stream.state }
    }

    /// Whether the program at the other end has it; its error, if it wasn't to be had.
    fn opening(&self) -> Option<Result<()>> {
        let state = self.state();
        if state.opened.get() {
            return Some(Ok(()));
        }
        match state.error.get() {
            0 => None,
            error => Some(Err(Error::Failed(Failure::new(error, None, String::new(), &self.address)))),
        }
    }

    /// Wakes the task when the program at the other end has it, or it is known that it isn't to be had.
    pub fn poll_opened(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(opened) = self.opening() {
            return Poll::Ready(opened);
        }
        self.state().opener.set(Some(context.waker().clone()));
        Poll::Pending
    }

    /// A future of that.
    pub fn opened(&self) -> impl Future<Output = Result<()>> + '_ {
        Polled(move |context: &mut Context<'_>| self.poll_opened(context))
    }

    /// Reads what has come; 0: the other side has ended. [`WouldBlock`](io::ErrorKind::WouldBlock): nothing has come, as far as the
    /// connection was processed.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state();
        if buffer.is_empty() {
            return Ok(0);
        }
        state.place.set((buffer.as_mut_ptr(), buffer.len()));
        unsafe { ffi::xenmsg_stream_resume(self.stream.raw) };
        let (_, left) = state.place.replace((ptr::null_mut(), 0));
        self.connection.wake();
        match (buffer.len() - left, state.broken()) {
            (0, Some(error)) => Err(error),
            (0, None) if !state.ended.get() => Err(io::ErrorKind::WouldBlock.into()),
            (taken, _) => Ok(taken),
        }
    }

    /// Writes as much as there is room for. [`WouldBlock`](io::ErrorKind::WouldBlock): there is none, since the other side doesn't
    /// read, or doesn't have it yet.
    pub fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        match unsafe { ffi::xenmsg_stream_write(self.stream.raw, data.as_ptr().cast(), data.len()) } {
            0 if !data.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            written @ 0.. => Ok(written as usize),
            error => Err(self.state().broken().unwrap_or_else(|| io::Error::from_raw_os_error(-error as i32))),
        }
    }

    /// Ends our direction, behind all that was written: the other side reads the end. Fails before it is open.
    pub fn end(&self) -> io::Result<()> {
        match self.opening() {
            Some(Ok(())) => unsafe { ffi::xenmsg_stream_end(self.stream.raw) },
            Some(Err(error)) => return Err(error.into()),
            None => return Err(io::ErrorKind::NotConnected.into()),
        }
        Ok(())
    }

    /// Drops the stream and, if it hasn't ended, says to the other side why: the program's own target couldn't be reached, or was lost.
    pub fn break_because(self, error: &io::Error) {
        self.state().cause.set(-error.raw_os_error().unwrap_or_default());
    }

    /// [`try_read`](Stream::try_read), or wakes the task when something has come.
    pub fn poll_read(&self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let done = self.try_read(buffer);
        self.pending(done, &self.state().reader, context)
    }

    /// [`try_write`](Stream::try_write), or wakes the task when there is room.
    pub fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let done = self.try_write(data);
        self.pending(done, &self.state().writer, context)
    }

    fn pending<T>(
        &self,
        done: io::Result<T>,
        waker: &Cell<Option<Waker>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if is_not_yet(&done) {
            waker.set(Some(context.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(done)
    }

    /// A future of the next bytes, at least one; 0: the other side has ended. Dropping it loses nothing.
    pub fn read_some<'s>(&'s self, buffer: &'s mut [u8]) -> impl Future<Output = io::Result<usize>> + 's {
        Polled(move |context: &mut Context<'_>| self.poll_read(context, buffer))
    }

    /// A future that is there when all of it was written.
    pub async fn write_whole(&self, data: &[u8]) -> io::Result<()> {
        let mut written = 0;
        while written < data.len() {
            let rest = &data[written..];
            written += Polled(move |context: &mut Context<'_>| self.poll_write(context, rest)).await?;
        }
        Ok(())
    }

    /// Tries until it is done, and processes the connection meanwhile.
    fn wait_for<T>(&self, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            let done = attempt();
            if !is_not_yet(&done) {
                return done;
            }
            let processed = self.connection.process();
            let done = attempt();
            if !is_not_yet(&done) {
                return done;
            }
            processed?;
            if !self.connection.sleep(None) {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
    }
}

impl Read for &Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for(|| self.try_read(buffer))
    }
}

impl Write for &Stream<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.wait_for(|| self.try_write(data))
    }

    /// Nothing waits: what was written is on its way.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        (&*self).write(data)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// ---- endpoints ----

const MOST_WAITING: usize = 1024; // more are refused, as of sockets

/// The callbacks of an endpoint find this. It lives as long as its connection, whatever becomes of the listener: a program has few.
struct Listening {
    endpoint: String,
    is_wanted: Cell<bool>,      // there is a listener
    is_settled: Cell<bool>,     // no outcome is to come
    outcome: Cell<*mut c_void>, // the userdata of on_done()
    come: Cell<VecDeque<(RawStream, Peer)>>,
    to_wake: *const WakerList,
}

/// All of a connection.
#[derive(Default)]
pub(crate) struct Listenings(Cell<Vec<*mut Listening>>);

impl Listenings {
    /// Returns one for this endpoint that nobody has, and no outcome is to come for; none if a listener has the endpoint.
    fn get(&self, endpoint: &str, to_wake: *const WakerList) -> Option<&Listening> {
        let mut all = self.0.take();
        let mut of_it = all.iter().map(|&listening| unsafe { &*listening }).filter(|one| one.endpoint == endpoint);
        let is_taken = of_it.clone().any(|one| one.is_wanted.get());
        let mut found = of_it.find(|one| one.is_settled.get());
        if found.is_none() && !is_taken {
            all.push(Box::into_raw(Box::new(Listening {
                endpoint: endpoint.into(),
                is_wanted: Cell::new(false),
                is_settled: Cell::new(true),
                outcome: Cell::new(ptr::null_mut()),
                come: Cell::default(),
                to_wake,
            })));
            found = all.last().map(|&listening| unsafe { &*listening });
        }
        self.0.set(all);
        found.filter(|_| !is_taken)
    }
}

impl Drop for Listenings {
    fn drop(&mut self) {
        for listening in self.0.take() {
            drop(unsafe { Box::from_raw(listening) });
        }
    }
}

unsafe extern "C" fn on_incoming(
    userdata: *mut c_void,
    raw: *mut ffi::xenmsg_stream,
    peer: *const ffi::xenmsg_peer,
) {
    let listening = &*userdata.cast::<Listening>();
    (*listening.to_wake).note_call();
    let mut come = listening.come.take();
    if listening.is_wanted.get() && come.len() < MOST_WAITING {
        let state = State::new(listening.to_wake, true);
        ffi::xenmsg_stream_set_callbacks(raw, &CALLBACKS, state.cast());
        come.push_back((RawStream { raw, state }, Peer::of(peer)));
        (*listening.to_wake).tell();
    }
    listening.come.set(come);
}

unsafe extern "C" fn on_listened(userdata: *mut c_void, result: *const ffi::xenmsg_result) {
    let listening = &*userdata.cast::<Listening>();
    on_done(listening.outcome.replace(ptr::null_mut()), result);
    listening.is_settled.set(true);
    (*listening.to_wake).tell(); // an error ends it
}

/// An endpoint for streams within the connection, from [`Connection::stream_listen`]. Dropped, it ends the endpoint, which waits for
/// nothing, and breaks the streams that came to it and weren't accepted; those that were go on.
pub struct Listener<'c> {
    connection: &'c Connection,
    listening: *const Listening, // of the connection
    outcome: Cell<Option<Handle>>,
    failed: RefCell<Option<Error>>,
}

impl<'c> Listener<'c> {
    fn of_connection(&self) -> &Listening {
        unsafe { &*self.listening }
    }

    /// The outcome of [`begin_stream_listen`](Connection::begin_stream_listen), once. A program that doesn't
    /// ask gets its error instead of a stream.
    pub fn listening(&self) -> Pending<'c, ()> {
        Pending::of(self.connection, &self.of_connection().endpoint, self.outcome.take())
    }

    fn taken(&self) -> Result<Option<(Stream<'c>, Peer)>> {
        let listening = self.of_connection();
        if let Some((stream, peer)) = first_of(&listening.come) {
            return Ok(Some((Stream { connection: self.connection, stream, address: String::new() }, peer)));
        }
        if let Some(outcome) = self.outcome.take() {
            match outcome.is_done() {
                true => *self.failed.borrow_mut() = outcome.take().and_then(|it| it.checked(&listening.endpoint).err()),
                false => self.outcome.set(Some(outcome)),
            }
        }
        self.failed.borrow().clone().map_or(Ok(None), Err)
    }

    /// The next stream that came, and who has opened it, without waiting.
    pub fn try_accept(&self) -> Result<Option<(Stream<'c>, Peer)>> {
        if let Some(first) = self.taken()? {
            return Ok(Some(first));
        }
        self.connection.process()?;
        self.taken()
    }

    /// The same; `None` if there is none by then. Messages wait meanwhile.
    pub fn accept_timeout(&self, timeout: impl Into<Option<Duration>>) -> Result<Option<(Stream<'c>, Peer)>> {
        self.connection.try_until(timeout.into(), &self.of_connection().endpoint, || self.try_accept())
    }

    /// The same, and waits for it.
    pub fn accept(&self) -> Result<(Stream<'c>, Peer)> {
        loop {
            if let Some(first) = self.accept_timeout(None)? {
                return Ok(first);
            }
        }
    }

    /// A future of the next stream. It takes one only when it returns it.
    pub fn incoming(&self) -> impl Future<Output = Result<(Stream<'c>, Peer)>> + '_ {
        Coming::new(self.connection, move |_| self.taken())
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        let listening = self.of_connection();
        listening.is_wanted.set(false);
        let _ = self.connection.unbind(&listening.endpoint); // which waits for nothing
        drop(listening.come.take());
        drop(self.outcome.take().map(Handle::going_on));
    }
}

impl Connection {
    /// Opens a stream within the connection to an endpoint on which a program listens, for either kind of streams.
    pub fn stream_connect(&self, address: &str, options: impl Into<Options>) -> Result<Stream<'_>> {
        let stream = self.begin_stream_connect(address, options)?;
        loop {
            let processed = self.process();
            if let Some(opened) = stream.opening() {
                return opened.map(|()| stream);
            }
            processed?;
            if !self.sleep(None) {
                return Err(self.failure(-errno::EINTR, address));
            }
        }
    }

    /// Begins to open one: [`Stream::opened`]. Dropping it withdraws it.
    pub fn begin_stream_connect(&self, address: &str, options: impl Into<Options>) -> Result<Stream<'_>> {
        let given: Options = options.into();
        let (name, options) = (c_text(address)?, given.raw());
        let (state, mut raw) = (State::new(self.to_wake(), false), ptr::null_mut());
        let r = unsafe {
            let userdata = state.cast();
            ffi::xenmsg_stream_connect(self.raw(), name.as_ptr(), &options, &CALLBACKS, userdata, &mut raw)
        };
        if r < 0 {
            drop(unsafe { Box::from_raw(state) });
            return Err(self.failure(r, address));
        }
        Ok(Stream { connection: self, stream: RawStream { raw, state }, address: address.into() })
    }

    /// Makes an endpoint for streams within the connection. Takes a time-out, [`Options::from_hosts`] and [`Options::shared`].
    pub fn stream_listen(&self, endpoint: &str, options: impl Into<Options>) -> Result<Listener<'_>> {
        let listener = self.begin_stream_listen(endpoint, options)?;
        listener.listening().wait()?;
        Ok(listener)
    }

    /// Begins to make one: [`Listener::listening`].
    pub fn begin_stream_listen(&self, endpoint: &str, options: impl Into<Options>) -> Result<Listener<'_>> {
        let given: Options = options.into();
        let (name, options) = (c_text(endpoint)?, given.raw());
        let listening = match self.listenings().get(endpoint, self.to_wake()) {
            Some(listening) => listening,
            None => return Err(Error::Failed(Failure::new(errno::EEXIST, None, String::new(), endpoint))),
        };
        let userdata = (listening as *const Listening as *mut Listening).cast();
        let begun = Handle::begin(self.to_wake(), |to| unsafe {
            listening.outcome.set(to.userdata);
            let (incoming, done) = (Some(on_incoming as _), Some(on_listened as _));
            ffi::xenmsg_begin_stream_listen(self.raw(), name.as_ptr(), &options, incoming, done, userdata, to.op)
        });
        match begun {
            Ok((outcome, _)) => {
                listening.is_wanted.set(true);
                listening.is_settled.set(false);
                let (outcome, failed) = (Cell::new(Some(outcome)), RefCell::new(None));
                Ok(Listener { connection: self, listening, outcome, failed })
            }
            Err(r) => Err(self.failure(r, endpoint)),
        }
    }
}
