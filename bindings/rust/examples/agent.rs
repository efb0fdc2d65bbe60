// SPDX-License-Identifier: LGPL-2.1-or-later
//! An agent that outlives its daemon: it answers calls to ENDPOINT, and says what happens to its connection. `agent ENDPOINT`

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use xenmsg::{Change, Connection, Error, Kind, Message, Options, Pending, Result, USUAL};

/// An answer to a caller who doesn't read. It waits for its room, and holds up nobody.
struct Unread<'c> {
    room: Pending<'c, ()>,
    call: Message<'c>,
    text: String,
}

fn answer<'c>(call: Message<'c>, text: String) -> Option<Unread<'c>> {
    match call.reply(&text) {
        Ok(()) => None,
        Err(error) if error.kind() == Some(Kind::Full) => {
            let room = call.begin_reply_room(text.len(), USUAL).ok()?;
            Some(Unread { room, call, text })
        }
        Err(error) => {
            println!("nobody waits for the answer: {error}");
            None
        }
    }
}

/// Returns how many daemons are new. One that refuses the endpoint leaves nothing to do.
fn tell_changes(conn: &Connection) -> Result<usize> {
    let mut new = 0;
    while let Some(change) = conn.try_change() {
        match change {
            Change::Lost(failure) => println!("the daemon is lost: {failure}"),
            Change::Back => {
                println!("there is a daemon again");
                new += 1;
            }
            Change::Refused(failure) => return Err(Error::Failed(failure)),
            other => println!("{other:?}"),
        }
    }
    Ok(new)
}

fn serve(endpoint: &str) -> Result<()> {
    let conn = Connection::open(Options::usual().reconnect())?;
    conn.bind(endpoint, Options::usual().only_calls())?;
    let (mut calls, mut restarts) = (0, 0);
    let mut unread: Vec<Unread<'_>> = Vec::new();
    loop {
        let call = conn.recv_timeout(Duration::from_secs(1))?;
        restarts += tell_changes(&conn)?;
        if let Some(call) = call {
            calls += 1;
            unread.extend(answer(call, format!("{calls} calls in {restarts} restarts")));
        }
        let (ready, waiting): (Vec<_>, Vec<_>) = unread.into_iter().partition(|one| one.room.is_done());
        unread = waiting;
        for Unread { call, text, .. } in ready {
            unread.extend(answer(call, text));
        }
    }
}

fn main() -> ExitCode {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "agent".into());
    if let Err(error) = serve(&endpoint) {
        eprintln!("agent: {error}");
    }
    ExitCode::FAILURE
}
