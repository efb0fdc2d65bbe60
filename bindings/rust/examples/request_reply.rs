// SPDX-License-Identifier: LGPL-2.1-or-later
//! A service that reverses texts, and its client: examples/request-reply.c in Rust.
//!
//!     request_reply serve ENDPOINT          in domain 2, say:   request_reply serve turn
//!     request_reply call ADDRESS TEXT       in domain 1:        request_reply call 2:turn hello

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use xenmsg::{Answered, Connection, Result, USUAL};

fn serve(conn: &Connection, endpoint: &str) -> Result<()> {
    conn.serve(endpoint, |call| {
        println!("a call from {}", call.sender());
        match std::str::from_utf8(call) {
            Ok(text) => Ok(text.chars().rev().collect::<String>()),
            Err(_) => Err(Answered::new(1, "that is no text")),
        }
    })?;
    Ok(())
}

fn call(conn: &Connection, address: &str, text: &str) -> Result<()> {
    let reply = conn.call(address, text, Duration::from_secs(5))?;
    println!("{}", String::from_utf8_lossy(&reply));
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["serve", endpoint] => Connection::open(USUAL).and_then(|conn| serve(&conn, endpoint)),
        ["call", address, text] => Connection::open(USUAL).and_then(|conn| call(&conn, address, text)),
        _ => {
            eprintln!("usage: request_reply serve ENDPOINT | call ADDRESS TEXT");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = done {
        eprintln!("request_reply: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
