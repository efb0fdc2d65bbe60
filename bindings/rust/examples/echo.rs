// SPDX-License-Identifier: LGPL-2.1-or-later
//! Streams within one connection: a server that gives back what comes over any number of them, without a thread or a descriptor for
//! each; and its client.
//!
//!     echo serve ENDPOINT          in domain 2, say:   echo serve mirror
//!     echo call ADDRESS            in domain 1:        echo call 2:mirror < FILE

use std::env;
use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use xenmsg::{Connection, Stream, USUAL};

const PIECE: usize = 65536;

/// A stream, and what came and isn't written back yet.
struct Client<'c> {
    stream: Stream<'c>,
    piece: Vec<u8>,
    written: usize,
}

enum Step {
    Done,
    GoesOn,
    Waits,
}

impl Client<'_> {
    /// A client that doesn't read what comes back has to wait with what else it writes.
    fn step(&mut self) -> io::Result<Step> {
        if self.written < self.piece.len() {
            self.written += self.stream.try_write(&self.piece[self.written..])?;
            return Ok(Step::GoesOn);
        }
        self.piece.resize(PIECE, 0);
        let read = self.stream.try_read(&mut self.piece);
        self.piece.truncate(*read.as_ref().unwrap_or(&0));
        self.written = 0;
        if read? == 0 {
            self.stream.end()?;
            return Ok(Step::Done);
        }
        Ok(Step::GoesOn)
    }

    /// A bounded part of it, so that others get their turn.
    fn turn(&mut self) -> Step {
        for _ in 0..16 {
            match self.step() {
                Ok(Step::GoesOn) => {}
                Ok(other) => return other,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Waits,
                Err(error) => {
                    eprintln!("echo: {error}");
                    return Step::Done;
                }
            }
        }
        Step::GoesOn
    }
}

fn serve(conn: &Connection, endpoint: &str) -> io::Result<()> {
    let listener = conn.stream_listen(endpoint, USUAL)?;
    let mut clients: Vec<Client<'_>> = Vec::new();
    loop {
        while let Some((stream, peer)) = listener.try_accept()? {
            println!("a stream from domain {}", peer.domid);
            clients.push(Client { stream, piece: Vec::new(), written: 0 });
        }
        let mut all_wait = true;
        clients.retain_mut(|client| {
            let step = client.turn();
            all_wait &= !matches!(step, Step::GoesOn);
            !matches!(step, Step::Done)
        });
        conn.wait(if all_wait { None } else { Some(Duration::ZERO) })?;
    }
}

fn call(conn: &Connection, address: &str) -> io::Result<()> {
    let mut stream = conn.stream_connect(address, Duration::from_secs(10))?;
    let mut back = Vec::new();
    let (mut input, mut line) = (io::stdin().lock(), Vec::new());
    while input.read_until(b'\n', &mut line)? != 0 {
        for piece in line.chunks(4096) {
            stream.write_all(piece)?;
            back.resize(piece.len(), 0);
            stream.read_exact(&mut back)?;
            io::stdout().write_all(&back)?;
        }
        line.clear();
    }
    stream.end()?;
    stream.read_to_end(&mut back)?;
    Ok(())
}

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (serves, name) = match words[..] {
        ["serve", endpoint] => (true, endpoint),
        ["call", address] => (false, address),
        _ => {
            eprintln!("usage: echo serve ENDPOINT | call ADDRESS");
            return ExitCode::from(2);
        }
    };
    let done = Connection::open(USUAL).map_err(io::Error::from);
    let done = done.and_then(|conn| if serves { serve(&conn, name) } else { call(&conn, name) });
    if let Err(error) = done {
        eprintln!("echo: {name}: {error}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
