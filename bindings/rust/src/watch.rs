// SPDX-License-Identifier: LGPL-2.1-or-later
//! Domains and endpoints that come and go.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::os::raw::{c_int, c_uint, c_void};
use std::ptr;
use std::time::Duration;

use crate::connection::{c_text, Coming};
use crate::error::Result;
use crate::ffi;
use crate::options::Options;
use crate::pending::{first_of, on_done, words, Handle, WakerList};
use crate::Connection;

/// A coming or going.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EventKind {
    /// The domain's daemon has appeared, its name has changed, or its link is no longer away.
    DomainUp,
    /// It has gone.
    DomainDown,
    /// An endpoint that this domain may reach has appeared.
    EndpointUp,
    /// It has gone.
    EndpointDown,
    /// The link with the domain is lost, and may be resumed.
    DomainAway,
    /// Another host can be asked.
    HostUp,
    /// It can't any more.
    HostDown,
    /// All that was there when the watch began was told: the next ones are news.
    Listed,
    /// Something that only a later library knows.
    Other(u32),
}

impl EventKind {
    fn of(kind: c_uint) -> EventKind {
        match kind {
            ffi::XENMSG_DOMAIN_UP => EventKind::DomainUp,
            ffi::XENMSG_DOMAIN_DOWN => EventKind::DomainDown,
            ffi::XENMSG_ENDPOINT_UP => EventKind::EndpointUp,
            ffi::XENMSG_ENDPOINT_DOWN => EventKind::EndpointDown,
            ffi::XENMSG_DOMAIN_AWAY => EventKind::DomainAway,
            ffi::XENMSG_HOST_UP => EventKind::HostUp,
            ffi::XENMSG_HOST_DOWN => EventKind::HostDown,
            ffi::XENMSG_LISTED => EventKind::Listed,
            other => EventKind::Other(other),
        }
    }
}

/// Somebody came or went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Its kind.
    pub kind: EventKind,
    /// The domain.
    pub domid: u32,
    /// The endpoint; of a domain its name, empty if unknown.
    pub name: String,
    /// In both cases the domain's name, empty if unknown.
    pub domain_name: String,
    /// The host that it is on, empty for this one.
    pub host: String,
}

/// The callbacks find it. It lives until there is neither a handle nor an outcome to come.
struct State {
    events: Cell<VecDeque<Event>>,
    outcome: Cell<*mut c_void>, // the userdata of on_done()
    told: Cell<bool>,
    released: Cell<bool>,
    /// The connection's, which outlives its watches.
    to_wake: *const WakerList,
}

unsafe extern "C" fn on_event(userdata: *mut c_void, event: *const ffi::xenmsg_event) {
    let (state, event) = (&*userdata.cast::<State>(), &*event);
    let mut events = state.events.take();
    events.push_back(Event {
        kind: EventKind::of(event.kind),
        domid: event.domid,
        name: words(event.name),
        domain_name: words(event.domain_name),
        host: words(event.host),
    });
    state.events.set(events);
    (*state.to_wake).note_call();
    (*state.to_wake).tell();
}

unsafe extern "C" fn on_watched(userdata: *mut c_void, result: *const ffi::xenmsg_result) {
    let pointer: *mut State = userdata.cast();
    on_done((*pointer).outcome.get(), result);
    (*(*pointer).to_wake).tell(); // an error ends it
    (*pointer).told.set(true);
    if (*pointer).released.get() {
        drop(Box::from_raw(pointer));
    }
}

/// Comings and goings, from [`Connection::watch`]: first, as if they just came, those who are there. It ends when it is dropped,
/// which waits for nothing.
pub struct Watch<'c> {
    connection: &'c Connection,
    state: *mut State,
    number: c_int,
    outcome: Handle,
    pattern: String,
}

impl Connection {
    /// Watches domains (`DOMAIN`: and their endpoints) or endpoints (`DOMAIN:ENDPOINT`), each by name or shell pattern; `HOST/` before
    /// it: of another host. Doesn't wait: whether there is such a watch, the first event or its error says.
    pub fn watch(&self, pattern: &str, options: impl Into<Options>) -> Result<Watch<'_>> {
        let given: Options = options.into();
        let (name, options) = (c_text(pattern)?, given.raw());
        let state = Box::into_raw(Box::new(State {
            events: Cell::default(),
            outcome: Cell::new(ptr::null_mut()),
            told: Cell::new(false),
            released: Cell::new(false),
            to_wake: self.to_wake(),
        }));
        let begun = Handle::begin(self.to_wake(), |to| unsafe {
            (*state).outcome.set(to.userdata);
            let (conn, userdata) = (self.raw(), state.cast());
            ffi::xenmsg_begin_watch(
                conn,
                name.as_ptr(),
                &options,
                Some(on_event),
                Some(on_watched),
                userdata,
                to.op,
            )
        });
        match begun {
            Ok((outcome, number)) => {
                Ok(Watch { connection: self, state, number, outcome: outcome.going_on(), pattern: pattern.into() })
            }
            Err(r) => {
                drop(unsafe { Box::from_raw(state) });
                Err(self.failure(r, pattern))
            }
        }
    }
}

impl<'c> Watch<'c> {
    fn taken(&self) -> Result<Option<Event>> {
        let state = unsafe { &*self.state };
        let event = first_of(&state.events);
        if event.is_none() {
            if let Some(outcome) = self.outcome.take() {
                outcome.checked(&self.pattern)?;
            }
        }
        Ok(event)
    }

    /// The next event, without waiting.
    pub fn try_next(&self) -> Result<Option<Event>> {
        if let Some(event) = self.taken()? {
            return Ok(Some(event));
        }
        self.connection.process()?;
        self.taken()
    }

    /// The next event; `None` if there is none by then. Messages wait meanwhile.
    pub fn next_timeout(&self, timeout: impl Into<Option<Duration>>) -> Result<Option<Event>> {
        self.connection.try_until(timeout.into(), &self.pattern, || self.try_next())
    }

    /// A future of the next event.
    pub fn next(&self) -> impl Future<Output = Result<Event>> + '_ {
        Coming::new(self.connection, move |_| self.taken())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        // Whatever that returns, none of its events is reported any more.
        unsafe { ffi::xenmsg_unwatch(self.connection.raw(), self.number) };
        let state = unsafe { &*self.state };
        if state.told.get() {
            drop(unsafe { Box::from_raw(self.state) });
        } else {
            state.released.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_librarys_event_is_no_error() {
        assert_eq!(EventKind::of(ffi::XENMSG_DOMAIN_AWAY), EventKind::DomainAway);
        assert_eq!(EventKind::of(4711), EventKind::Other(4711));
    }
}
