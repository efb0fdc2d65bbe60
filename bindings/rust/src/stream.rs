// SPDX-License-Identifier: LGPL-2.1-or-later
//! Byte streams: plain sockets, which no longer need the connection.

use std::ffi::CStr;
use std::future::Future;
use std::os::raw::c_int;
use std::os::unix::io::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::time::Duration;

use crate::connection::{c_text, Coming};
use crate::error::Result;
use crate::ffi::{self, errno};
use crate::message::name_of;
use crate::options::{Options, USUAL};
use crate::pending::{words, Pending};
use crate::Connection;

/// The program at the other end of a stream; its identity is worth what that of a message's [`Sender`](crate::Sender) is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its domain.
    pub domid: u32,
    /// Its user there.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process.
    pub pid: u32,
    /// The endpoint to which the stream was opened.
    pub endpoint: String,
    /// The name of its domain, empty if unknown.
    pub name: String,
    /// The name of its host, empty for this one.
    pub host: String,
    /// The stream's name in traces (`xenmsg trace`), if that is known.
    pub channel: Option<String>,
}

impl Peer {
    pub(crate) unsafe fn of(peer: *const ffi::xenmsg_peer) -> Peer {
        Peer {
            domid: ffi::xenmsg_peer_domid(peer),
            uid: ffi::xenmsg_peer_uid(peer),
            gid: ffi::xenmsg_peer_gid(peer),
            pid: ffi::xenmsg_peer_pid(peer),
            endpoint: words(ffi::xenmsg_peer_endpoint(peer)),
            name: words(ffi::xenmsg_peer_domain_name(peer)),
            host: words(ffi::xenmsg_peer_host(peer)),
            channel: name_of(|name, size| ffi::xenmsg_peer_channel(peer, name, size)),
        }
    }
}

/// A stream that came, and who has opened it.
#[derive(Debug)]
pub struct Incoming {
    /// The stream, as a socket.
    pub stream: UnixStream,
    /// The program that has opened it.
    pub peer: Peer,
}

impl Connection {
    /// Connects to an endpoint on which a program listens. The end of the stream reads as end of file; if something between the two
    /// programs dies, reading gives what came before and then an error (`ECONNRESET`).
    pub fn connect(&self, address: &str, options: impl Into<Options>) -> Result<UnixStream> {
        let given: Options = options.into();
        let (to, options) = (c_text(address)?, given.raw());
        let r = self.checked(unsafe { ffi::xenmsg_connect(self.raw(), to.as_ptr(), &options) }, address)?;
        Ok(UnixStream::from(unsafe { OwnedFd::from_raw_fd(r) }))
    }

    /// Begins to connect.
    pub fn begin_connect(&self, address: &str, options: impl Into<Options>) -> Result<Pending<'_, UnixStream>> {
        Pending::named(self, address, options, ffi::xenmsg_begin_connect)
    }

    /// Makes an endpoint for streams, until [`unbind`](Connection::unbind). Takes a time-out and [`Options::from_hosts`].
    pub fn listen(&self, endpoint: &str, options: impl Into<Options>) -> Result<()> {
        let given: Options = options.into();
        let (name, options) = (c_text(endpoint)?, given.raw());
        self.checked(unsafe { ffi::xenmsg_listen(self.raw(), name.as_ptr(), &options) }, endpoint).map(drop)
    }

    /// Begins to make one.
    pub fn begin_listen(&self, endpoint: &str, options: impl Into<Options>) -> Result<Pending<'_, ()>> {
        Pending::named(self, endpoint, options, ffi::xenmsg_begin_listen)
    }

    fn accept_for(&self, options: Options) -> Result<Option<Incoming>> {
        let mut peer = ptr::null();
        let r = unsafe { ffi::xenmsg_accept(self.raw(), &options.raw(), &mut peer) };
        if r == -errno::EAGAIN || r == -errno::ETIMEDOUT {
            return Ok(None);
        }
        let stream = if r < 0 { None } else { Some(self.taken(unsafe { OwnedFd::from_raw_fd(r) })) };
        self.checked(r, "")?;
        Ok(stream.map(|stream| Incoming {
            stream: UnixStream::from(stream),
            peer: unsafe { Peer::of(peer) },
        }))
    }

    /// The next stream that came to any endpoint for streams here.
    pub fn accept(&self) -> Result<Incoming> {
        loop {
            if let Some(incoming) = self.accept_for(USUAL.forever())? {
                return Ok(incoming);
            }
        }
    }

    /// The same; `None` if there is none by then.
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Option<Incoming>> {
        self.accept_for(USUAL.timeout(timeout))
    }

    /// The same, without waiting.
    pub fn try_accept(&self) -> Result<Option<Incoming>> {
        self.accept_timeout(Duration::ZERO)
    }

    /// A future of the next stream. It takes one only when it returns it.
    pub fn incoming(&self) -> impl Future<Output = Result<Incoming>> + '_ {
        Coming::new(self, Connection::try_accept)
    }
}

/// Closes a stream so that the other side reads what came before and then an error (`ECONNRESET`), not an orderly end, which
/// to drop the stream is. Never waits.
pub fn break_stream(stream: impl Into<OwnedFd>) {
    let fd: c_int = stream.into().into_raw_fd();
    unsafe { ffi::xenmsg_break(fd) }
}

/// Says in words why a stream has broken, which reading has told by `ECONNRESET`: who has ended it, and where it leads to a target
/// that couldn't be reached, why not.
pub fn break_reason(stream: impl AsFd) -> &'static str {
    let words = unsafe { CStr::from_ptr(ffi::xenmsg_break_reason(stream.as_fd().as_raw_fd())) };
    words.to_str().unwrap_or_default()
}
