// SPDX-License-Identifier: LGPL-2.1-or-later
//! Topics: one publishes and waits for nobody, many subscribe.

use std::cell::Cell;
use std::os::raw::c_uint;
use std::ptr;

use crate::connection::c_text;
use crate::error::Result;
use crate::ffi;
use crate::options::{Options, USUAL};
use crate::pending::{on_done, Handle, Pending};
use crate::Connection;

/// A topic of this program's, until it is dropped. Its messages go to all subscribers.
///
/// ```no_run
/// # use xenmsg::{Connection, Retain, USUAL};
/// # fn f() -> xenmsg::Result<()> {
/// let conn = Connection::open(USUAL)?;
/// let news = conn.topic("news", Retain::Last)?;
/// news.publish(b"shutdown at 18:00")?;
/// let sensors = conn.topic("sensors", Retain::Keys(100))?;
/// sensors.publish_value("cellar", b"12.5")?;
/// # Ok(()) }
/// ```
pub struct Topic<'c> {
    connection: &'c Connection,
    name: String,
    address: String,
    outcome: Cell<Option<Handle>>,
}

/// The messages that a topic keeps for later subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retain {
    /// Nothing.
    Nothing,
    /// The last message.
    Last,
    /// The last message of each key ([`Topic::publish_value`]), of so many keys at most, up to 4095; of more those that were published
    /// last. An empty message keeps none of its key.
    Keys(u16),
}

impl<'c> Topic<'c> {
    /// The outcome of [`begin_topic`](Connection::begin_topic), once.
    pub fn bound(&self) -> Pending<'c, ()> {
        Pending::of(self.connection, &self.name, self.outcome.take())
    }

    /// Publishes, and returns when the daemon has it, which waits for no subscriber.
    pub fn publish(&self, data: impl AsRef<[u8]>) -> Result<()> {
        self.connection.send(&self.address, data, USUAL)
    }

    /// The same, as the value of a key, which is 1 to 255 printable characters of ASCII ([`Kind::Invalid`](crate::Kind)). An empty value
    /// goes to all who subscribe, and deletes what the topic has kept of that key.
    pub fn publish_value(&self, key: &str, data: impl AsRef<[u8]>) -> Result<()> {
        self.connection.send(&self.address, data, USUAL.key(key))
    }

    /// Begins to publish, of [`Options::key`] as its value.
    pub fn begin_publish(&self, data: impl AsRef<[u8]>, options: impl Into<Options>) -> Result<Pending<'c, ()>> {
        self.connection.begin_send(&self.address, data, options)
    }
}

impl Drop for Topic<'_> {
    fn drop(&mut self) {
        let _ = self.connection.unbind(&self.name); // which waits for nothing; without a daemon there is none
        drop(self.outcome.take().map(Handle::going_on));
    }
}

/// A notice to a subscriber, in its place between the messages of a topic ([`Message::notice`](crate::Message::notice)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// Its kind.
    pub kind: NoticeKind,
    /// With [`NoticeKind::Subscribed`] how many messages were published before, with [`NoticeKind::Missed`] how many are missing here.
    pub messages: u64,
    /// Perhaps more are missing, and nobody can know.
    pub unknown: bool,
    /// With [`NoticeKind::Ended`] its errno, else 0.
    pub errno: i32,
}

/// The kind of a [`Notice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoticeKind {
    /// From here on nothing is missing without a notice.
    Subscribed,
    /// Messages are missing here: this program, or the way to it, was too slow.
    Missed,
    /// The topic isn't there, and is waited for.
    Waiting,
    /// The subscription has ended.
    Ended,
    /// The next message is the one that the topic has kept.
    Kept,
    /// One of a later library.
    Other(u32),
}

impl NoticeKind {
    pub(crate) fn of(kind: c_uint) -> NoticeKind {
        match kind {
            ffi::XENMSG_SUBSCRIBED => NoticeKind::Subscribed,
            ffi::XENMSG_MISSED => NoticeKind::Missed,
            ffi::XENMSG_WAITING => NoticeKind::Waiting,
            ffi::XENMSG_ENDED => NoticeKind::Ended,
            ffi::XENMSG_KEPT => NoticeKind::Kept,
            other => NoticeKind::Other(other),
        }
    }
}

impl Connection {
    /// Makes a topic.
    pub fn topic(&self, name: &str, retain: Retain) -> Result<Topic<'_>> {
        let topic = self.begin_topic(name, retain)?;
        topic.bound().wait()?;
        Ok(topic)
    }

    /// Begins to make one: [`Topic::bound`].
    pub fn begin_topic(&self, name: &str, retain: Retain) -> Result<Topic<'_>> {
        let outcome = Cell::new(self.begin_bind(name, USUAL.as_topic(retain))?.into_handle());
        Ok(Topic { connection: self, name: name.into(), address: format!("self:{name}"), outcome })
    }

    /// Subscribes to a topic, until [`unsubscribe`](Connection::unsubscribe) or the end of the connection. Published messages come as
    /// messages, whose endpoint is this address, with notices between them. The topic may come later, go, and come again.
    pub fn subscribe(&self, address: &str, options: impl Into<Options>) -> Result<()> {
        let (name, given): (_, Options) = (c_text(address)?, options.into());
        let options = given.raw();
        let r = unsafe { ffi::xenmsg_subscribe(self.raw(), name.as_ptr(), &options, None, ptr::null_mut()) };
        self.checked(r, address).map(drop)
    }

    /// Begins to subscribe.
    pub fn begin_subscribe(&self, address: &str, options: impl Into<Options>) -> Result<Pending<'_, ()>> {
        let (name, given): (_, Options) = (c_text(address)?, options.into());
        let options = given.raw();
        Pending::begin(self, address, |to| unsafe {
            ffi::xenmsg_begin_subscribe(self.raw(), name.as_ptr(), &options, None, Some(on_done), to.userdata, to.op)
        })
    }

    /// Ends a subscription, without waiting.
    pub fn unsubscribe(&self, address: &str) -> Result<()> {
        let name = c_text(address)?;
        self.checked(unsafe { ffi::xenmsg_unsubscribe(self.raw(), name.as_ptr()) }, address).map(drop)
    }
}
