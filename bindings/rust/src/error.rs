// SPDX-License-Identifier: LGPL-2.1-or-later
//! What went wrong, and what is known of what was begun.

use std::fmt;
use std::io;
use std::ptr;

use crate::ffi::{self, errno};
use crate::pending::words;

/// How much is known of a message or a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It was delivered; of a call: a handler has answered it.
    Done,
    /// It wasn't, and never will be: it may be sent again.
    NotDone,
    /// It may have been, and nobody can know.
    Unknown,
}

impl Fate {
    pub(crate) fn of_result(fate: std::os::raw::c_uint) -> Fate {
        match fate {
            ffi::XENMSG_FATE_DONE => Fate::Done,
            ffi::XENMSG_FATE_NOT_DONE => Fate::NotDone,
            _ => Fate::Unknown, // what a later library may say isn't known here
        }
    }

    pub(crate) fn of_errno(number: i32) -> Fate {
        match number {
            errno::ECONNRESET | errno::ECHILD => Fate::Unknown,
            _ => Fate::NotDone,
        }
    }
}

/// The meaning of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// There is no such endpoint, or watch (`ENOENT`).
    NotFound,
    /// A policy denies it (`EACCES`).
    Denied,
    /// Policy can't decide it yet: a name isn't known (`ENODATA`).
    Undecided,
    /// No such domain, or no daemon in it (`EHOSTDOWN`).
    DomainDown,
    /// Nothing leads there (`EHOSTUNREACH`).
    Unreachable,
    /// Over a quota (`ENOBUFS`).
    OverQuota,
    /// Larger than is accepted (`EMSGSIZE`).
    TooLarge,
    /// Not in time (`ETIMEDOUT`); whether it may have been done says [`Failure::fate`].
    TimedOut,
    /// A signal has ended the wait (`EINTR`).
    Interrupted,
    /// Given up, or no longer wanted (`ECANCELED`).
    Cancelled,
    /// The daemon is gone (`ENOTCONN`), or isn't there (`ECONNREFUSED`; where the connection is opened, `ENOENT`, too).
    NoDaemon,
    /// Something between the two died; nobody can know more (`ECONNRESET`).
    Reset,
    /// The endpoint takes no calls, or no messages, or no streams (`EPROTOTYPE`).
    WrongKind,
    /// Somebody has it already (`EEXIST`).
    Exists,
    /// There is no room now: [`Connection::process`](crate::Connection::process), and try again (`EAGAIN`).
    Full,
    /// It was answered before (`EALREADY`).
    AlreadyAnswered,
    /// A malformed address, pattern or name (`EINVAL`).
    Invalid,
    /// Another one: [`Failure::errno`].
    Other,
}

/// A failure other than a program's answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    errno: i32,
    fate: Fate,
    reason: String,
    subject: String,
    of_opening: bool,
}

impl Failure {
    pub(crate) fn new(error: i32, fate: Option<Fate>, reason: String, subject: &str) -> Failure {
        let number = error.abs();
        Failure { errno: number, fate: fate.unwrap_or_else(|| Fate::of_errno(number)), reason, subject: subject.into(), of_opening: false }
    }

    /// The daemon's socket isn't found then, and no endpoint is meant.
    pub(crate) fn of_opening(error: i32, path: &str) -> Failure {
        let reason = words(unsafe { ffi::xenmsg_reason(ptr::null_mut(), error) });
        Failure { of_opening: true, ..Failure::new(error, None, reason, path) }
    }

    /// Its meaning.
    pub fn kind(&self) -> Kind {
        match self.errno {
            errno::ENOENT if self.of_opening => Kind::NoDaemon,
            errno::ENOENT => Kind::NotFound,
            errno::EACCES => Kind::Denied,
            errno::ENODATA => Kind::Undecided,
            errno::EHOSTDOWN => Kind::DomainDown,
            errno::EHOSTUNREACH => Kind::Unreachable,
            errno::ENOBUFS => Kind::OverQuota,
            errno::EMSGSIZE => Kind::TooLarge,
            errno::ETIMEDOUT => Kind::TimedOut,
            errno::EINTR => Kind::Interrupted,
            errno::ECANCELED => Kind::Cancelled,
            errno::ENOTCONN | errno::ECONNREFUSED => Kind::NoDaemon,
            errno::ECONNRESET => Kind::Reset,
            errno::EPROTOTYPE => Kind::WrongKind,
            errno::EEXIST => Kind::Exists,
            errno::EAGAIN => Kind::Full,
            errno::EALREADY => Kind::AlreadyAnswered,
            errno::EINVAL => Kind::Invalid,
            _ => Kind::Other,
        }
    }

    /// The number, positive, as `xenmsg.h` lists them.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// How much is known of its outcome.
    pub fn fate(&self) -> Fate {
        self.fate
    }

    /// Why, in words for people: the daemon's, or what the error means.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The address, endpoint, pattern or question; empty if there was none.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        if self.reason.is_empty() {
            write!(f, "{}", io::Error::from_raw_os_error(self.errno))
        } else {
            write!(f, "{}", self.reason)
        }
    }
}

/// The sentence, too: what `main() -> Result<_>` and `unwrap()` print is for people.
impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// The program there has answered a call with an error of its own, or has refused a message; and how a handler here does so
/// ([`Connection::serve`](crate::Connection::serve)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Which error it is to that program: its number, and in no way one of ours.
    pub code: u16,
    /// Data that it has sent along.
    pub data: Vec<u8>,
    /// How the command has ended that was run for the call, 1 to 255.
    pub exit_status: Option<u8>,
    /// [`Fate::Done`] of a call; [`Fate::NotDone`] of a message that was refused.
    pub fate: Fate,
}

impl Answered {
    /// The code of a call that the program has dropped without an answer (`XENMSG_UNANSWERED`).
    pub const UNANSWERED: u16 = 125;

    /// How a handler refuses a call: with a number of its own, from 1, and words for people.
    pub fn new(code: u16, words: impl Into<Vec<u8>>) -> Answered {
        Answered { code, data: words.into(), exit_status: None, fate: Fate::Done }
    }
}

/// A handler passes on what the program behind it has answered. A failure on the way there is of no number of that program's, and
/// becomes the code `EIO`, with the words of the failure.
impl From<Error> for Answered {
    fn from(error: Error) -> Answered {
        match error {
            Error::Answered(answered) => answered,
            Error::Failed(failure) => Answered::new(errno::EIO as u16, failure.to_string()),
        }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered: error {}", self.code)?;
        match std::str::from_utf8(&self.data) {
            Ok(words) if !words.is_empty() && !words.chars().any(char::is_control) => write!(f, ": {words}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Answered {}

/// Why something wasn't done: a program's own answer, or a failure on the way.
#[derive(Clone, PartialEq, Eq)]
pub enum Error {
    /// The program there says so.
    Answered(Answered),
    /// Everything else.
    Failed(Failure),
}

impl Error {
    /// How much is known of its outcome.
    pub fn fate(&self) -> Fate {
        match self {
            Error::Answered(answer) => answer.fate,
            Error::Failed(failure) => failure.fate,
        }
    }

    /// The meaning of a failure; `None` of a program's own answer.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Error::Answered(_) => None,
            Error::Failed(failure) => Some(failure.kind()),
        }
    }

    pub(crate) fn invalid(subject: &str) -> Error {
        Error::Failed(Failure::new(errno::EINVAL, None, String::new(), subject))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Answered(answer) => answer.fmt(f),
            Error::Failed(failure) => failure.fmt(f),
        }
    }
}

/// The sentence, as of a failure.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The error within has said all: a chain of causes is printed as one line.
impl std::error::Error for Error {}

/// Of what gives back what it couldn't take: `?` drops that.
impl<T> From<(Error, T)> for Error {
    fn from((error, _): (Error, T)) -> Error {
        error
    }
}

/// With the number, as programs of `std::io` have it; the words are lost.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        match error {
            Error::Answered(_) => io::Error::from_raw_os_error(errno::EREMOTEIO),
            Error::Failed(failure) => io::Error::from_raw_os_error(failure.errno),
        }
    }
}

/// Functions here return it.
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_main_prints_is_a_sentence() {
        let error = Error::Failed(Failure::new(-2, None, "no such endpoint there".into(), "5:inbox"));
        assert_eq!(format!("{error:?}"), "5:inbox: no such endpoint there");
    }

    fn failure(number: i32, fate: Option<Fate>) -> Failure {
        Failure::new(-number, fate, String::new(), "5:inbox")
    }

    #[test]
    fn only_what_may_have_happened_is_unknown() {
        assert_eq!(failure(errno::ECONNRESET, None).fate(), Fate::Unknown);
        assert_eq!(failure(errno::ETIMEDOUT, None).fate(), Fate::NotDone);
        assert_eq!(failure(errno::ETIMEDOUT, Some(Fate::Unknown)).fate(), Fate::Unknown);
        assert_eq!(Fate::of_result(77), Fate::Unknown);
    }

    #[test]
    fn a_programs_answer_is_no_failure() {
        let answer = Answered { code: 2, data: b"no such key".to_vec(), exit_status: None, fate: Fate::Done };
        let error = Error::Answered(answer);
        assert_eq!(error.kind(), None);
        assert_eq!(error.to_string(), "answered: error 2: no such key");
        assert_eq!(Error::from((Error::Failed(failure(errno::ENOENT, None)), "given back")).kind(), Some(Kind::NotFound));
        assert_eq!(io::Error::from(error).raw_os_error(), Some(errno::EREMOTEIO));
    }

    #[test]
    fn an_error_names_its_address() {
        assert!(failure(errno::EHOSTDOWN, None).to_string().starts_with("5:inbox: "));
        let said = Failure::new(-errno::EACCES, None, "a rule denies it".into(), "5:inbox");
        assert_eq!(said.to_string(), "5:inbox: a rule denies it");
        assert!(std::error::Error::source(&Error::Failed(said)).is_none());
    }
}
