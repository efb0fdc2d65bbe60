// SPDX-License-Identifier: LGPL-2.1-or-later
//! What was begun, and what becomes of it.
//!
//! No code of a program's runs within the library's callbacks: they note what has come. So nothing unwinds through C, nothing
//! calls back into a connection from within, and a waker runs when the library has returned.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ffi::CStr;
use std::future::Future;
use std::marker::PhantomData;
use std::os::raw::{c_char, c_int, c_void};
use std::os::unix::io::{FromRawFd, OwnedFd};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::connection::c_text;
use crate::error::{Answered, Error, Failure, Fate, Result};
use crate::ffi::{self, errno};
use crate::message::{Message, RawMessage};
use crate::options::Options;
use crate::Connection;

/// A `struct xenmsg_result` that owns what belongs to its receiver.
pub struct Outcome {
    error: c_int,
    fate: Fate,
    code: u16,
    exit_status: u8,
    reason: String,
    reply: Option<RawMessage>,
    json: Option<String>,
    round_trip: Duration,
    stream: Option<OwnedFd>,
}

impl Outcome {
    /// Takes over what a result holds. Called once for each.
    pub(crate) unsafe fn take(result: &ffi::xenmsg_result) -> Outcome {
        Outcome {
            error: result.error,
            fate: Fate::of_result(result.fate),
            code: result.code.try_into().unwrap_or(u16::MAX),
            exit_status: result.exit_status.try_into().unwrap_or(0),
            reason: words(result.reason),
            reply: if result.reply.is_null() { None } else { Some(RawMessage(result.reply)) },
            json: taken_text(result.json),
            round_trip: Duration::from_nanos(result.round_trip_ns),
            stream: if result.stream < 0 { None } else { Some(OwnedFd::from_raw_fd(result.stream)) },
        }
    }

    /// A function that returned an error without a result: the error is what there is.
    pub(crate) fn of_return(self, r: c_int) -> Outcome {
        if r >= 0 || self.error == r {
            return self;
        }
        Outcome { error: r, fate: Fate::of_errno(-r), ..self }
    }

    pub(crate) fn into_reply(self, connection: &Connection) -> Option<Message<'_>> {
        self.reply.map(|reply| Message::new(reply, connection))
    }

    pub(crate) fn checked(self, subject: &str) -> Result<Outcome> {
        if self.error >= 0 {
            return Ok(self);
        }
        if self.error == -errno::EREMOTEIO {
            return Err(Error::Answered(Answered {
                code: self.code,
                data: self.reply.map_or_else(Vec::new, |reply| reply.data().to_vec()),
                exit_status: if self.exit_status == 0 { None } else { Some(self.exit_status) },
                fate: self.fate,
            }));
        }
        Err(Error::Failed(Failure::new(self.error, Some(self.fate), self.reason, subject)))
    }
}

/// Takes the first of what has come.
pub(crate) fn first_of<T>(queue: &Cell<VecDeque<T>>) -> Option<T> {
    let mut all = queue.take();
    let first = all.pop_front();
    queue.set(all);
    first
}

pub(crate) fn words(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    unsafe { CStr::from_ptr(text).to_string_lossy().into_owned() }
}

unsafe fn taken_text(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    let copy = words(text);
    ffi::libc::free(text.cast());
    Some(copy)
}

/// A type that an operation can end in.
pub trait Value<'c>: Sized + sealed::Sealed<'c> {}

mod sealed {
    pub trait Sealed<'c>: Sized {
        fn of(outcome: super::Outcome, connection: &'c crate::Connection) -> Option<Self>;
    }
}

use sealed::Sealed;

impl<'c> Sealed<'c> for () {
    fn of(_: Outcome, _: &'c Connection) -> Option<()> {
        Some(())
    }
}

impl<'c> Sealed<'c> for Message<'c> {
    fn of(outcome: Outcome, connection: &'c Connection) -> Option<Message<'c>> {
        outcome.into_reply(connection)
    }
}

impl<'c> Sealed<'c> for std::os::unix::net::UnixStream {
    fn of(outcome: Outcome, _: &'c Connection) -> Option<Self> {
        outcome.stream.map(Self::from)
    }
}

impl<'c> Sealed<'c> for String {
    fn of(outcome: Outcome, _: &'c Connection) -> Option<String> {
        outcome.json
    }
}

impl<'c> Sealed<'c> for Duration {
    fn of(outcome: Outcome, _: &'c Connection) -> Option<Duration> {
        Some(outcome.round_trip)
    }
}

impl<'c, T: Sealed<'c>> Value<'c> for T {}

/// A callback finds it: it lives until there is neither a handle nor an outcome to come.
struct State {
    handle: Cell<bool>,
    op: Cell<*mut ffi::xenmsg_op>,
    outcome: Cell<Option<Outcome>>,
    ended: Cell<bool>,
    waker: Cell<Option<Waker>>,
    /// The connection's, which outlives every outcome.
    to_wake: *const WakerList,
}

/// The tasks to be woken when the library has returned, and those that wait for something to come.
#[derive(Default)]
pub(crate) struct WakerList {
    due: Cell<Vec<Waker>>,
    tasks: Cell<Vec<Waker>>,
    called: Cell<bool>,
}

impl WakerList {
    pub(crate) fn push(&self, waker: Waker) {
        let mut wakers = self.due.take();
        wakers.push(waker);
        self.due.set(wakers);
    }

    /// Once for a task, however often that looks.
    pub(crate) fn wait(&self, waker: &Waker) {
        let mut wakers = self.tasks.take();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        self.tasks.set(wakers);
    }

    /// Something has come: whoever waits looks whether it is for him.
    pub(crate) fn tell(&self) {
        let mut wakers = self.due.take();
        wakers.append(&mut self.tasks.take());
        self.due.set(wakers);
    }

    /// The library has called back.
    pub(crate) fn note_call(&self) {
        self.called.set(true);
    }

    /// Whether it has since this was asked the last time.
    pub(crate) fn was_called(&self) -> bool {
        self.called.replace(false)
    }

    pub(crate) fn wake(&self) {
        for waker in self.due.take() {
            waker.wake();
        }
    }
}

pub(crate) unsafe extern "C" fn on_done(userdata: *mut c_void, result: *const ffi::xenmsg_result) {
    let pointer: *mut State = userdata.cast();
    let outcome = Outcome::take(&*result);
    let state = &*pointer;
    (*state.to_wake).note_call();
    state.op.set(ptr::null_mut());
    state.ended.set(true);
    if !state.handle.get() {
        drop(Box::from_raw(pointer));
        return;
    }
    state.outcome.set(Some(outcome));
    if let Some(waker) = state.waker.take() {
        (*state.to_wake).push(waker);
    }
}

/// Somebody who may want to know the outcome. Dropped before it is known, it withdraws what was begun, unless `goes_on`.
pub(crate) struct Handle {
    state: *mut State,
    goes_on: bool,
}

/// A function that begins is given it: where the outcome goes, and where it puts the operation.
pub(crate) struct Beginning {
    pub userdata: *mut c_void,
    pub op: *mut *mut ffi::xenmsg_op,
}

impl Handle {
    /// `to_wake` stays where it is as long as an outcome may come.
    pub(crate) fn begin(
        to_wake: *const WakerList,
        begin: impl FnOnce(Beginning) -> c_int,
    ) -> std::result::Result<(Handle, c_int), c_int> {
        let state = Box::into_raw(Box::new(State {
            handle: Cell::new(true),
            op: Cell::new(ptr::null_mut()),
            outcome: Cell::new(None),
            ended: Cell::new(false),
            waker: Cell::new(None),
            to_wake,
        }));
        let mut op = ptr::null_mut();
        let r = begin(Beginning { userdata: state.cast(), op: &mut op });
        if r < 0 {
            drop(unsafe { Box::from_raw(state) });
            return Err(r);
        }
        unsafe { (*state).op.set(op) };
        Ok((Handle { state, goes_on: false }, r))
    }

    fn state(&self) -> &State {
        unsafe { &*self.state }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state().ended.get()
    }

    pub(crate) fn withdraw(&self) -> bool {
        let op = self.state().op.get();
        !op.is_null() && unsafe { ffi::xenmsg_op_withdraw(op) == 0 }
    }

    pub(crate) fn going_on(self) -> Handle {
        let mut handle = self;
        handle.goes_on = true;
        handle
    }

    /// Once, when it is known.
    pub(crate) fn take(&self) -> Option<Outcome> {
        self.state().outcome.take()
    }

    pub(crate) fn wake_with(&self, waker: &Waker) {
        self.state().waker.set(Some(waker.clone()));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let state = self.state();
        state.waker.set(None);
        if state.ended.get() {
            drop(unsafe { Box::from_raw(self.state) });
            return;
        }
        state.handle.set(false);
        if !self.goes_on {
            self.withdraw(); // whatever comes of that, on_done() frees the state
        }
    }
}

type Begins = unsafe extern "C" fn(
    *mut ffi::xenmsg,
    *const c_char,
    *const ffi::xenmsg_options,
    ffi::xenmsg_done,
    *mut c_void,
    *mut *mut ffi::xenmsg_op,
) -> c_int;

/// An operation that was begun: await it, or [`wait`](Pending::wait). Dropping it withdraws it; [`detach`](Pending::detach) lets it go on.
#[must_use = "dropping it withdraws what was begun"]
pub struct Pending<'c, T> {
    connection: &'c Connection,
    handle: Option<Handle>, // None: what was taken before it was begun has no outcome any more
    subject: String,
    value: PhantomData<fn() -> T>,
}

// So that the compiler keeps the connection where it is until then (message.rs).
impl<T> Drop for Pending<'_, T> {
    fn drop(&mut self) {}
}

impl<'c, T: Value<'c>> Pending<'c, T> {
    pub(crate) fn begin(
        connection: &'c Connection,
        subject: &str,
        begin: impl FnOnce(Beginning) -> c_int,
    ) -> Result<Pending<'c, T>> {
        match Handle::begin(connection.to_wake(), begin) {
            Ok((handle, _)) => Ok(Pending::of(connection, subject, Some(handle))),
            Err(r) => Err(connection.failure(r, subject)),
        }
    }

    /// For the functions that take a name and options.
    pub(crate) fn named(
        connection: &'c Connection,
        name: &str,
        options: impl Into<Options>,
        begins: Begins,
    ) -> Result<Pending<'c, T>> {
        let given: Options = options.into();
        let (text, options) = (c_text(name)?, given.raw());
        Pending::begin(connection, name, |to| unsafe {
            begins(connection.raw(), text.as_ptr(), &options, Some(on_done), to.userdata, to.op)
        })
    }

    pub(crate) fn of(connection: &'c Connection, subject: &str, handle: Option<Handle>) -> Pending<'c, T> {
        Pending { connection, handle, subject: subject.into(), value: PhantomData }
    }

    pub(crate) fn into_handle(mut self) -> Option<Handle> {
        self.handle.take()
    }

    /// Whether its outcome is known. That changes while the connection is processed.
    pub fn is_done(&self) -> bool {
        self.handle.as_ref().map_or(true, Handle::is_done)
    }

    /// Gives it up, as if its time were up. The outcome, which follows within 2 s, says what became of it. Returns false if it is
    /// too late for that.
    pub fn withdraw(&self) -> bool {
        self.handle.as_ref().map_or(false, Handle::withdraw)
    }

    /// Lets it go on without anybody who looks at its outcome. [`Connection::flush`] waits for it.
    pub fn detach(mut self) {
        if let Some(handle) = &mut self.handle {
            handle.goes_on = true;
        }
    }

    /// Waits for its outcome. Messages wait meanwhile. A signal withdraws it.
    pub fn wait(mut self) -> Result<T> {
        while !self.is_done() {
            let processed = self.connection.process();
            if self.is_done() {
                break;
            }
            processed?;
            if !self.connection.sleep(None) {
                self.withdraw();
            }
        }
        self.take()
    }

    fn take(&mut self) -> Result<T> {
        let outcome = match self.handle.take().and_then(|handle| handle.take()) {
            Some(outcome) => outcome.checked(&self.subject)?,
            None => return Err(Error::invalid(&self.subject)),
        };
        T::of(outcome, self.connection).ok_or_else(|| Error::invalid(&self.subject))
    }
}

impl<'c, T: Value<'c>> Future for Pending<'c, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        if self.is_done() {
            return Poll::Ready(self.take());
        }
        if let Some(handle) = &self.handle {
            handle.wake_with(context.waker());
        }
        Poll::Pending
    }
}
