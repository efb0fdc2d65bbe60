// SPDX-License-Identifier: LGPL-2.1-or-later
//! Tasks on one connection, on an executor with `std` alone: what tokio or another one does with the connection's descriptor, to be
//! read here as a whole.
//!
//! It serves ENDPOINT, many calls at a time: each goes on to ADDRESS, and the answer back. A caller that gives up takes its call along.
//!
//!     executor ENDPOINT ADDRESS          in domain 2, say:   executor front 3:turn

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::env;
use std::future::Future;
use std::io;
use std::os::raw::c_int;
use std::os::unix::io::AsRawFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake};

use xenmsg::{Answered, Connection, Kind, Message, Options, WakeHandle, USUAL};

// ---- the executor ----

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

struct Executor<'a> {
    conn: &'a Connection,
    tasks: RefCell<HashMap<u64, Task<'a>>>,
    spawned: Cell<u64>,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

/// Any thread may wake a task.
struct TaskWaker {
    task: u64,
    ready: Arc<Mutex<VecDeque<u64>>>,
    connection: WakeHandle,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap().push_back(self.task);
        self.connection.wake();
    }
}

impl<'a> Executor<'a> {
    fn new(conn: &'a Connection) -> Executor<'a> {
        Executor { conn, tasks: RefCell::default(), spawned: Cell::new(0), ready: Arc::default() }
    }

    fn spawn(&self, future: impl Future<Output = ()> + 'a) {
        let task = self.spawned.replace(self.spawned.get() + 1);
        self.tasks.borrow_mut().insert(task, Box::pin(future));
        self.ready.lock().unwrap().push_back(task);
    }

    fn poll(&self, task: u64) {
        let taken = self.tasks.borrow_mut().remove(&task); // while it is polled, it may spawn others
        if let Some(mut future) = taken {
            let (ready, connection) = (self.ready.clone(), self.conn.waker());
            let waker = Arc::new(TaskWaker { task, ready, connection }).into();
            if future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                self.tasks.borrow_mut().insert(task, future);
            }
        }
    }

    /// Polls tasks that are ready, and sleeps when none is. Each edge is answered with one process(), which wakes tasks.
    fn run(&self) -> io::Result<()> {
        let edges = Edges::of(self.conn)?;
        loop {
            let next = self.ready.lock().unwrap().pop_front();
            match next {
                Some(task) => self.poll(task),
                None => {
                    edges.wait();
                    self.conn.process()?;
                }
            }
        }
    }
}

/// epoll, which std hasn't.
struct Edges(c_int);

#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
struct EpollEvent {
    events: u32,
    data: u64,
}

extern "C" {
    fn epoll_create1(flags: c_int) -> c_int;
    fn epoll_ctl(epoll: c_int, operation: c_int, fd: c_int, event: *mut EpollEvent) -> c_int;
    fn epoll_wait(epoll: c_int, events: *mut EpollEvent, most: c_int, timeout_ms: c_int) -> c_int;
}

impl Edges {
    fn of(conn: &Connection) -> io::Result<Edges> {
        const CLOEXEC: c_int = 0o2000000;
        const ADD: c_int = 1;
        const IN_BY_EDGE: u32 = 1 | 1 << 31;
        let mut wanted = EpollEvent { events: IN_BY_EDGE, data: 0 };
        unsafe {
            let epoll = epoll_create1(CLOEXEC);
            if epoll < 0 || epoll_ctl(epoll, ADD, conn.as_raw_fd(), &mut wanted) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Edges(epoll)) // for as long as the program runs
        }
    }

    fn wait(&self) {
        let mut come = EpollEvent { events: 0, data: 0 };
        unsafe { epoll_wait(self.0, &mut come, 1, -1) };
    }
}

// ---- the program ----

/// Whichever of the two is there first; the other one is dropped. (Other crates call this select.)
async fn first<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> Result<A, B> {
    struct First<'f, A, B>(Pin<&'f mut dyn Future<Output = A>>, Pin<&'f mut dyn Future<Output = B>>);

    impl<A, B> Future for First<'_, A, B> {
        type Output = Result<A, B>;

        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<A, B>> {
            if let Poll::Ready(a) = self.0.as_mut().poll(context) {
                return Poll::Ready(Ok(a));
            }
            self.1.as_mut().poll(context).map(Err)
        }
    }
    let (mut a, mut b) = (Box::pin(a), Box::pin(b));
    First(a.as_mut(), b.as_mut()).await
}

async fn pass_on(conn: &Connection, call: Message<'_>, address: &str) {
    let answer = match conn.begin_call(address, &call, USUAL) {
        Ok(pending) => match first(pending, call.withdrawn()).await {
            Ok(answer) => answer,
            Err(()) => return, // the caller has gone, and with it goes what was begun
        },
        Err(error) => Err(error),
    };
    match answer {
        Ok(reply) => {
            if let Err(error) = reply_when_there_is_room(&call, &reply).await {
                eprintln!("executor: nobody gets this answer: {error}");
            }
        }
        Err(error) => {
            let Answered { code, data, .. } = error.into();
            drop(call.reply_error(code, data)); // an error says that this caller has gone, or reads nothing
        }
    }
}

/// A caller who doesn't read what was answered before holds up nobody but this task.
async fn reply_when_there_is_room(call: &Message<'_>, data: &[u8]) -> xenmsg::Result<()> {
    loop {
        match call.reply(data) {
            Err(error) if error.kind() == Some(Kind::Full) => call.begin_reply_room(data.len(), USUAL)?.await?,
            other => return other,
        }
    }
}

async fn take_calls<'a>(executor: Rc<Executor<'a>>, conn: &'a Connection, endpoint: &str, address: &'a str) {
    let bound = match conn.begin_bind(endpoint, Options::usual().only_calls()) {
        Ok(pending) => pending.await,
        Err(error) => Err(error),
    };
    if let Err(error) = bound {
        eprintln!("executor: {error}");
        std::process::exit(1);
    }
    loop {
        match conn.recv_async().await {
            Ok(call) => executor.spawn(pass_on(conn, call, address)),
            Err(error) => {
                eprintln!("executor: {error}");
                std::process::exit(1);
            }
        }
    }
}

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.len() != 2 {
        eprintln!("usage: executor ENDPOINT ADDRESS");
        std::process::exit(2);
    }
    let conn = Connection::open(USUAL)?;
    let executor = Rc::new(Executor::new(&conn));
    executor.spawn(take_calls(executor.clone(), &conn, &words[0], &words[1]));
    executor.run()
}
