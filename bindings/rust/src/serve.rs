// SPDX-License-Identifier: LGPL-2.1-or-later
//! Handlers as closures.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use crate::error::{Answered, Kind, Result};
use crate::ffi::errno;
use crate::message::Message;
use crate::options::Options;
use crate::pending::Pending;
use crate::Connection;

type Handler<'c, 'h> = Box<dyn FnMut(Message<'c>) + 'h>;

/// Endpoints, each with a handler. A handler may keep its message, and answer it later; it may use the connection; and if it
/// panics, that unwinds through Rust alone. What a handler borrows needs to live as long as the server (`'h`), and may hold messages
/// of the connection (`'c`).
///
/// ```no_run
/// # use xenmsg::{Connection, Server, USUAL};
/// # fn f() -> xenmsg::Result<()> {
/// let conn = Connection::open(USUAL)?;
/// let mut server = Server::new(&conn);
/// server.bind("log", USUAL, |message| println!("{}: {}", message.sender(), String::from_utf8_lossy(&message)))?;
/// server.bind("echo", USUAL, |call| drop(call.reply(&call)))?;
/// server.run()?;
/// # Ok(()) }
/// ```
pub struct Server<'c, 'h> {
    connection: &'c Connection,
    handlers: HashMap<String, Handler<'c, 'h>>,
}

impl<'c, 'h> Server<'c, 'h> {
    /// One without endpoints.
    pub fn new(connection: &'c Connection) -> Server<'c, 'h> {
        Server { connection, handlers: HashMap::new() }
    }

    /// Makes an endpoint: each message that comes to it goes to the handler, within [`turn`](Server::turn) and [`run`](Server::run).
    pub fn bind(
        &mut self,
        endpoint: &str,
        options: impl Into<Options>,
        handler: impl FnMut(Message<'c>) + 'h,
    ) -> Result<()> {
        self.connection.bind(endpoint, options)?;
        self.handlers.insert(endpoint.into(), Box::new(handler));
        Ok(())
    }

    /// Removes one.
    pub fn unbind(&mut self, endpoint: &str) -> Result<()> {
        self.handlers.remove(endpoint);
        self.connection.unbind(endpoint)
    }

    fn handle(&mut self, message: Message<'c>) {
        if let Some(handler) = self.handlers.get_mut(message.endpoint()) {
            handler(message);
        }
    }

    /// Waits for a message and handles it. Returns false if none came in time.
    pub fn turn(&mut self, timeout: Duration) -> Result<bool> {
        match self.connection.recv_timeout(timeout)? {
            Some(message) => self.handle(message),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Handles what has come, without waiting; for a program with a loop, when the connection's descriptor is readable. Returns how
    /// much there was.
    pub fn process(&mut self) -> Result<usize> {
        let mut count = 0;
        self.connection.process()?;
        while let Some(message) = self.connection.try_recv()? {
            self.handle(message);
            count += 1;
        }
        Ok(count)
    }

    /// Handles what comes, until it fails.
    pub fn run(&mut self) -> Result<Infallible> {
        loop {
            match self.connection.recv() {
                Ok(message) => self.handle(message),
                Err(error) if error.kind() == Some(Kind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Server<'_, '_> {
    fn drop(&mut self) {
        for endpoint in self.handlers.keys() {
            let _ = self.connection.unbind(endpoint); // gone with the connection, or now
        }
    }
}

/// A reply to a caller who doesn't read, and the wait for room for it.
struct Reply<'c> {
    room: Option<Pending<'c, ()>>, // dropped first; None: it couldn't be begun, so there is none
    call: Message<'c>,
    data: Vec<u8>,
    until: Instant,
}

/// Few of them, and each for a while.
struct Replies<'c> {
    waiting: VecDeque<Reply<'c>>,
}

impl<'c> Replies<'c> {
    const MOST: usize = 16;
    const PATIENCE: Duration = Duration::from_secs(5);

    /// A caller that waits for nothing any more needs no answer.
    fn send(&mut self, call: Message<'c>, data: Vec<u8>, until: Instant) {
        match call.reply(&data) {
            Err(error) if error.kind() == Some(Kind::Full) => {}
            _ => return,
        }
        if self.waiting.len() == Self::MOST {
            self.give_up();
        }
        let room = call.begin_reply_room(data.len(), Options::usual()).ok();
        self.waiting.push_back(Reply { room, call, data, until });
    }

    /// The one that has waited longest.
    fn give_up(&mut self) {
        let first = (0..self.waiting.len()).min_by_key(|&i| self.waiting[i].until);
        if let Some(reply) = first.and_then(|i| self.waiting.remove(i)) {
            let _ = reply.call.reply_error(errno::ENOBUFS as u16, b"the caller doesn't read its replies");
        }
    }

    fn send_again(&mut self) {
        for _ in 0..self.waiting.len() {
            if let Some(reply) = self.waiting.pop_front() {
                if matches!(&reply.room, Some(room) if room.is_done()) {
                    self.send(reply.call, reply.data, reply.until);
                } else {
                    self.waiting.push_back(reply);
                }
            }
        }
        while self.patience() == Some(Duration::ZERO) {
            self.give_up();
        }
    }

    /// For how long the first one is waited for; `None`: there is none.
    fn patience(&self) -> Option<Duration> {
        self.waiting.iter().map(|reply| reply.until.saturating_duration_since(Instant::now())).min()
    }
}

impl Connection {
    /// Makes an endpoint for calls and answers them, one after the other, with what the handler returns, or with its [`Answered`]; until
    /// it fails. `?` makes one of an [`Error`](crate::Error), so decide what of that is meant for the caller. A caller who doesn't read holds up nobody, and gets the error `ENOBUFS` after 5 s.
    pub fn serve<R: Into<Vec<u8>>>(
        &self,
        endpoint: &str,
        mut handler: impl FnMut(&Message<'_>) -> std::result::Result<R, Answered>,
    ) -> Result<Infallible> {
        self.bind(endpoint, Options::usual().only_calls())?;
        let mut replies = Replies { waiting: VecDeque::new() };
        let failed = loop {
            replies.send_again();
            let come = match replies.patience() {
                None => self.recv().map(Some),
                Some(patience) => self.recv_or_change(patience),
            };
            let call = match come {
                Ok(Some(call)) => call,
                Ok(None) => continue,
                Err(error) if error.kind() == Some(Kind::Interrupted) => continue,
                Err(error) => break error,
            };
            match handler(&call) {
                Ok(data) => replies.send(call, data.into(), Instant::now() + Replies::PATIENCE),
                Err(error) => drop(match error.exit_status {
                    Some(status) => call.reply_exit_status(status),
                    None => call.reply_error(error.code.max(1), error.data),
                }),
            }
        };
        let _ = self.unbind(endpoint);
        Err(failed)
    }

    /// The next message, or `None` after anything else has happened, or nothing in time.
    fn recv_or_change(&self, timeout: Duration) -> Result<Option<Message<'_>>> {
        self.process()?;
        let message = self.try_recv()?;
        if message.is_none() {
            self.sleep(Some(timeout));
        }
        Ok(message)
    }
}
