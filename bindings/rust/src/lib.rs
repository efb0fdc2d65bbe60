// SPDX-License-Identifier: LGPL-2.1-or-later
//! Messages between programs in different Xen domains: `libxenmsg` for Rust, with `std` alone.
//!
//! ```no_run
//! use std::time::Duration;
//! use xenmsg::{Answered, Connection, Error, USUAL};
//!
//! fn client() -> xenmsg::Result<()> {
//!     let conn = Connection::open(USUAL)?;
//!     conn.send("5:inbox", b"hello", USUAL)?; // returns when it was delivered
//!     match conn.call("5:kv", b"get colour", Duration::from_secs(2)) {
//!         Ok(reply) => println!("{}", String::from_utf8_lossy(&reply)),
//!         Err(Error::Answered(answer)) => println!("the server says: {answer}"),
//!         Err(Error::Failed(failure)) => println!("{failure}; it is {:?}", failure.fate()),
//!     }
//!     Ok(())
//! }
//!
//! fn server() -> xenmsg::Result<()> {
//!     let conn = Connection::open(USUAL)?;
//!     conn.serve("kv", |call| match &call[..] {
//!         b"get colour" => Ok("green"),
//!         _ => Err(Answered::new(1, "no such key")),
//!     })?;
//!     Ok(())
//! }
//! ```
//!
//! A [`Connection`] is Send, not Sync, and never blocks when it is dropped. What comes from it ([`Message`], [`Pending`], [`Watch`],
//! [`Draft`], [`Stream`]) borrows it; an [`OwnedMessage`] is free of it. No code of a program's runs within C.
//!
//! # Async
//! What `begin_…` returns is a future, as are [`Connection::recv_async`], [`Connection::incoming`] and [`Watch::next`]. An executor has one
//! thing to do: when the connection's descriptor is readable, by level or by edge, it calls [`Connection::process`], which wakes whom
//! it has to. `examples/executor.rs` is one, with `std` alone. With tokio, on a `LocalSet`:
//! ```ignore
//! let fd = tokio::io::unix::AsyncFd::with_interest(conn.as_raw_fd(), Interest::READABLE)?;
//! loop {
//!     fd.readable().await?.clear_ready();
//!     conn.process()?;
//! }
//! ```
#![warn(missing_docs)]

mod conn_stream;
mod connection;
mod error;
#[doc(hidden)]
pub mod ffi;
mod message;
mod options;
mod pending;
mod serve;
mod stream;
mod topic;
mod watch;

pub use conn_stream::{Listener, Stream};
pub use connection::{Change, Connection, WakeHandle};
pub use error::{Answered, Error, Failure, Fate, Kind, Result};
pub use message::{Draft, Message, OwnedMessage, Peeked, Sender};
pub use options::{Options, USUAL};
pub use pending::{Pending, Value};
pub use serve::Server;
pub use stream::{break_reason, break_stream, Incoming, Peer};
pub use topic::{Notice, NoticeKind, Retain, Topic};
pub use watch::{Event, EventKind, Watch};

/// The version of the C library that the program runs with: major, minor, patch.
pub fn library_version() -> (u8, u8, u8) {
    let [_, major, minor, patch] = unsafe { ffi::xenmsg_version() }.to_be_bytes();
    (major, minor, patch)
}
