// SPDX-License-Identifier: LGPL-2.1-or-later
//! One publishes, many subscribe: each line of the input is a key and its value, and who comes later first gets the last value of each.
//!
//!     topic publish NAME            in domain 2, say:   topic publish sensors
//!     topic subscribe ADDRESS       in domain 1:        topic subscribe 2:sensors

use std::env;
use std::io;
use std::process::ExitCode;

use xenmsg::{Connection, NoticeKind, Options, Result, Retain, USUAL};

fn publish(conn: &Connection, name: &str) -> Result<()> {
    let topic = conn.topic(name, Retain::OfEachKey(100))?;
    for line in io::stdin().lines().flatten() {
        let (key, value) = line.split_once(' ').unwrap_or((&line, ""));
        topic.publish_value(key, value)?;
    }
    Ok(())
}

fn subscribe(conn: &Connection, address: &str) -> Result<()> {
    conn.subscribe(address, USUAL)?;
    loop {
        let message = conn.recv()?;
        match message.notice() {
            None => println!("{}: {}", message.key(), String::from_utf8_lossy(&message)),
            Some(notice) => match notice.kind {
                NoticeKind::Subscribed => println!("from here on all of it, after {}", notice.messages),
                NoticeKind::Missed => println!("{} are missing here", notice.messages),
                NoticeKind::Waiting => println!("the topic isn't there"),
                NoticeKind::Ended => {
                    println!("the subscription has ended: {}", io::Error::from_raw_os_error(notice.errno));
                    return Ok(());
                }
                _ => {} // Kept: the next one was published before
            },
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let conn = Connection::open(Options::usual().reconnect());
    let done = match words[..] {
        ["publish", name] => conn.and_then(|conn| publish(&conn, name)),
        ["subscribe", address] => conn.and_then(|conn| subscribe(&conn, address)),
        _ => {
            eprintln!("usage: topic publish NAME | subscribe ADDRESS");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = done {
        eprintln!("topic: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
