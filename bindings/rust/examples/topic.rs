// SPDX-License-Identifier: LGPL-2.1-or-later
//! One publishes, many subscribe: each line of the input is a key, a space and its value, and one that comes later first gets the last value
//! of each. A key without a value behind its space has none any more.
//!
//!     topic publish NAME            in domain 2, say:   topic publish sensors
//!     topic subscribe ADDRESS       in domain 1:        topic subscribe 2:sensors

use std::env;
use std::error::Error;
use std::io;
use std::process::ExitCode;

use xenmsg::{Connection, Kind, NoticeKind, Options, Retain, USUAL};

fn publish(conn: &Connection, name: &str) -> Result<(), Box<dyn Error>> {
    let topic = conn.topic(name, Retain::Keys(100))?;
    for line in io::stdin().lines() {
        let line = line?;
        let (key, value) = match line.split_once(' ') {
            Some(parts) => parts,
            None => {
                eprintln!("topic: a key and a space are missing: {line}");
                continue;
            }
        };
        match topic.publish_value(key, value) {
            Err(error) if error.kind() == Some(Kind::Invalid) => eprintln!("topic: that is no key: {key}"),
            other => other?,
        }
    }
    Ok(())
}

fn subscribe(conn: &Connection, address: &str) -> Result<(), Box<dyn Error>> {
    conn.subscribe(address, USUAL)?;
    loop {
        let message = conn.recv()?;
        match message.notice() {
            None => println!("{}: {}", message.key(), String::from_utf8_lossy(&message)),
            Some(notice) => match notice.kind {
                NoticeKind::Subscribed => println!("from here on all of it, after {}", notice.messages),
                NoticeKind::Missed if notice.unknown => println!("at least {} are missing here", notice.messages),
                NoticeKind::Missed => println!("{} are missing here", notice.messages),
                NoticeKind::Waiting => println!("the topic isn't there"),
                NoticeKind::Ended if notice.errno != 0 => return Err(io::Error::from_raw_os_error(notice.errno).into()),
                NoticeKind::Ended => return Ok(()),
                _ => {} // Kept: the next one was published before
            },
        }
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (publishes, name) = match words[..] {
        ["publish", name] => (true, name),
        ["subscribe", address] => (false, address),
        _ => {
            eprintln!("usage: topic publish NAME | subscribe ADDRESS");
            return ExitCode::from(2);
        }
    };
    let done = Connection::open(Options::usual().reconnect()).map_err(Box::from);
    let done = done.and_then(|conn| if publishes { publish(&conn, name) } else { subscribe(&conn, name) });
    if let Err(error) = done {
        eprintln!("topic: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
