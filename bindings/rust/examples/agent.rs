// SPDX-License-Identifier: LGPL-2.1-or-later
//! An agent that outlives its daemon: it answers calls to ENDPOINT, and says what happens to its connection. `agent ENDPOINT`

use std::env;
use std::time::Duration;

use xenmsg::{Change, Connection, Options, Result};

fn main() -> Result<()> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "agent".into());
    let conn = Connection::open(Options::usual().reconnect())?;
    conn.bind(&endpoint, Options::usual().only_calls())?;
    let (mut calls, mut restarts) = (0, 0);
    loop {
        if let Some(call) = conn.recv_timeout(Duration::from_secs(1))? {
            calls += 1;
            // An error only means that this caller has gone.
            let _ = call.reply(format!("{calls} calls since {restarts} restarts"));
        }
        while let Some(change) = conn.try_change() {
            match &change {
                Change::Lost(failure) => println!("the daemon is lost: {failure}"),
                Change::Back => println!("there is a daemon again"),
                Change::Refused(failure) => println!("not there again: {failure}"),
                other => println!("{other:?}"),
            }
            restarts += usize::from(change == Change::Back);
        }
    }
}
