// SPDX-License-Identifier: LGPL-2.1-or-later
//! What is promised, with a daemon: `$XENMSG_SOCKET`. tests/integration/test_rust.py runs each of these in a simulated domain.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io::{self, Read, Write};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use xenmsg::{break_stream, Answered, Change, Connection, Error, EventKind, Fate, Kind, Listener, Message, NoticeKind, Options, Peer, Pending,
    Result, Retain, Server, Stream, USUAL};

const LONG: Duration = Duration::from_secs(60);

fn open() -> Connection {
    Connection::open(USUAL).expect("a daemon at $XENMSG_SOCKET")
}

fn answer_of<T>(result: Result<T>) -> xenmsg::Answered {
    match result {
        Err(Error::Answered(answer)) => answer,
        Err(Error::Failed(failure)) => panic!("{failure}"),
        Ok(_) => panic!("no error"),
    }
}

fn kind_of<T>(result: Result<T>) -> Kind {
    result.err().and_then(|error| error.kind()).expect("a failure")
}

/// Runs `serve` in a thread of its own, with the connection that was opened here.
fn serving(endpoint: &'static str) -> thread::JoinHandle<()> {
    let (conn, (ready, is_ready)) = (open(), mpsc::channel());
    let thread = thread::spawn(move || {
        let mut server = Server::new(&conn);
        let over = Rc::new(Cell::new(false));
        let ends = over.clone();
        server
            .bind(endpoint, Options::usual().only_calls(), move |call| {
                match &call[..] {
                    b"end" => ends.set(true),
                    b"status" => return call.reply_exit_status(3).unwrap(),
                    b"no" => return call.reply_error(7, b"never").unwrap(),
                    _ => {}
                }
                call.reply(&call).unwrap();
            })
            .unwrap();
        ready.send(()).unwrap();
        while !over.get() {
            server.turn(LONG).unwrap();
        }
        conn.process().unwrap(); // the answer is on its way
        conn.flush(LONG).unwrap();
    });
    is_ready.recv_timeout(LONG).unwrap();
    thread
}

#[test]
fn a_message_is_delivered_or_its_error_says_why_not() {
    let (here, there) = (open(), open());
    there.bind("rs-inbox", USUAL).unwrap();
    let sending = here.begin_send("self:rs-inbox", b"hello", USUAL).unwrap();
    let name = here.sent_name("self:rs-inbox").unwrap();
    let message = there.recv().unwrap();
    assert_eq!((&message[..], message.endpoint(), message.name()), (&b"hello"[..], "rs-inbox", Some(name)));
    assert_eq!((message.sender().domid, message.sender().pid), (here.domid(), std::process::id()));
    there.process().unwrap();
    sending.wait().unwrap();
    let error = here.send("self:rs-nobody", b"x", USUAL).unwrap_err();
    assert_eq!((error.kind(), error.fate()), (Some(Kind::NotFound), Fate::NotDone));
    let late = here.send("self:rs-inbox", b"x", Duration::ZERO).unwrap_err();
    assert_eq!((late.kind(), late.fate()), (Some(Kind::TimedOut), Fate::NotDone));
    assert_eq!(kind_of(here.send("no address", b"x", USUAL)), Kind::Invalid);
    assert_eq!(kind_of(here.send("a\0b:c", b"x", USUAL)), Kind::Invalid);
}

#[test]
fn a_servers_answer_is_apart_from_a_failure() {
    let server = serving("rs-kv");
    let conn = open();
    assert_eq!(&conn.call("self:rs-kv", b"echo", USUAL).unwrap()[..], b"echo");
    let answer = answer_of(conn.call("self:rs-kv", b"no", USUAL));
    assert_eq!((answer.code, &answer.data[..], answer.fate), (7, &b"never"[..], Fate::Done));
    assert_eq!(answer_of(conn.call("self:rs-kv", b"status", LONG)).exit_status, Some(3));
    assert_eq!(kind_of(conn.call("self:rs-gone", b"", USUAL)), Kind::NotFound);
    conn.call("self:rs-kv", b"end", USUAL).unwrap();
    server.join().unwrap();
}

#[test]
fn a_socket_that_is_not_there_is_no_daemon() {
    let nobody = Connection::open_at("/nonexistent/xenmsg.sock", USUAL).map(drop);
    assert_eq!(kind_of(nobody), Kind::NoDaemon);
}

#[test]
fn serve_answers_with_what_the_handler_returns() {
    let conn = open();
    thread::spawn(|| {
        let conn = open();
        conn.serve("rs-serve", |call| match &call[..] {
            b"ask" => Ok("an answer"),
            _ => Err(Answered::new(9, "not that")),
        })
    });
    let end = Instant::now() + LONG;
    let reply = loop {
        match conn.call("self:rs-serve", b"ask", LONG) {
            Err(error) if error.kind() == Some(Kind::NotFound) && Instant::now() < end => thread::yield_now(),
            other => break other.unwrap(),
        }
    };
    assert_eq!(&reply[..], b"an answer");
    let answer = answer_of(conn.call("self:rs-serve", b"else", LONG));
    assert_eq!((answer.code, Answered::from(Error::Answered(answer)).data), (9, b"not that".to_vec()));
    let nobody = conn.call("self:rs-nobody", b"", USUAL).unwrap_err();
    assert_eq!((nobody.kind(), Answered::from(nobody).code), (Some(Kind::NotFound), 5)); // no number of a program's
}

#[test]
fn who_reads_no_replies_holds_up_no_other() {
    let (greedy, other, begun) = (open(), open(), Instant::now());
    thread::spawn(|| open().serve("rs-big", |_| Ok(vec![7; 1_000_000])));
    let ready = loop {
        match other.call("self:rs-big", b"", USUAL) {
            Err(error) if error.kind() == Some(Kind::NotFound) && begun.elapsed() < LONG => thread::yield_now(),
            reply => break reply.unwrap(),
        }
    };
    let calls: Vec<_> = (0..40).map_while(|_| greedy.begin_call("self:rs-big", b"", USUAL).ok()).collect();
    greedy.process().unwrap(); // and never again, until the others have their answers
    for _ in 0..40 {
        assert!(other.call("self:rs-big", b"", LONG).unwrap()[..] == ready[..]);
    }
    let answers: Vec<_> = calls.into_iter().map(Pending::wait).collect();
    assert!(answers.iter().any(Result::is_ok));
    assert!(answers.into_iter().all(|answer| answer.map(drop).or_else(|error| match error {
        Error::Answered(answer) if answer.code == 105 => Ok(()), // ENOBUFS
        other => Err(other),
    }) == Ok(())));
}

#[test]
fn calls_are_kept_and_answered_in_any_order() {
    let (client, conn) = (open(), open());
    let kept: RefCell<Vec<Message<'_>>> = RefCell::default();
    let mut server = Server::new(&conn);
    server.bind("rs-later", USUAL, |call| kept.borrow_mut().push(call)).unwrap();
    let calls: Vec<_> =
        (0..100u8).map(|i| client.begin_call("self:rs-later", [i], USUAL).unwrap()).collect();
    while kept.borrow().len() < 100 {
        client.process().unwrap();
        assert!(server.turn(LONG).unwrap());
    }
    for call in kept.borrow_mut().drain(..).rev() {
        call.reply(&call).unwrap();
    }
    conn.process().unwrap();
    for (i, call) in calls.into_iter().enumerate() {
        assert_eq!(&call.wait().unwrap()[..], [i as u8]);
    }
}

#[test]
fn a_panic_in_a_handler_unwinds_and_answers_its_caller() {
    let (client, conn) = (open(), open());
    let mut server = Server::new(&conn);
    server.bind("rs-panic", USUAL, |_| panic!("on purpose")).unwrap();
    let call = client.begin_call("self:rs-panic", b"", USUAL).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(|| server.turn(LONG))).is_err());
    conn.process().unwrap();
    assert_eq!(answer_of(call.wait()).code, Answered::UNANSWERED);
    drop(server);
    conn.query("status", USUAL).unwrap(); // answered behind the end of the endpoint
    assert_eq!(kind_of(open().send("self:rs-panic", b"", LONG)), Kind::NotFound);
}

#[test]
fn a_detached_message_outlives_its_connection_elsewhere() {
    let (here, there) = (open(), open());
    there.bind("rs-detach", Options::usual().lend()).unwrap();
    let data: Vec<u8> = (0..20000u32).map(|i| i as u8).collect();
    here.begin_send("self:rs-detach", &data, USUAL).unwrap().detach();
    let call = here.begin_call("self:rs-detach", b"call", USUAL).unwrap();
    let message = there.recv().unwrap().into_owned().unwrap();
    let (error, call_there) = there.recv().unwrap().into_owned().unwrap_err();
    assert_eq!(error.kind(), Some(Kind::Other)); // EBUSY
    call_there.reply(b"").unwrap();
    drop(call_there);
    there.process().unwrap();
    call.wait().unwrap();
    drop(there);
    thread::spawn(move || assert!(message[..] == data[..])).join().unwrap();
}

#[test]
fn what_is_dropped_is_withdrawn_and_what_is_detached_goes_on() {
    let (here, there) = (open(), open());
    there.bind("rs-drop", USUAL).unwrap();
    drop(here.begin_send("self:rs-drop", b"dropped", USUAL).unwrap());
    here.flush(LONG).unwrap();
    here.begin_send("self:rs-drop", b"kept", USUAL).unwrap().detach();
    here.process().unwrap();
    assert_eq!(&there.recv().unwrap()[..], b"kept");
    there.process().unwrap();
    here.flush(LONG).unwrap();
}

#[test]
fn a_draft_is_sent_or_given_up() {
    let (here, there) = (open(), open());
    there.bind("rs-draft", USUAL).unwrap();
    let mut draft = here.reserve("self:rs-draft", 50000).unwrap();
    assert!(draft.cells().len() == 50000 && draft.len() == 50000);
    assert!(here.reserve("self:rs-draft", 10).is_err(), "one at a time");
    drop(draft);
    let mut draft = here.reserve("self:rs-draft", 50000).unwrap();
    assert_eq!((draft.len(), draft.capacity()), (0, 50000));
    draft.write_all(&[2; 40000]).unwrap();
    let (error, draft) = draft.commit(USUAL.trace("\n")).err().unwrap();
    assert_eq!(error.kind(), Some(Kind::Invalid));
    let sending = draft.unwrap().commit(USUAL).ok().unwrap();
    assert!(there.recv().unwrap()[..] == [2; 40000]);
    there.process().unwrap();
    sending.wait().unwrap();
    let mut draft = here.reserve("self:rs-draft", 3).unwrap();
    assert!(draft.write_all(b"four").is_err() && draft.len() == 3);
    draft.cells()[0].set(b'F');
    draft.truncate(2);
    let sending = draft.commit(USUAL).ok().unwrap();
    assert_eq!(&there.recv().unwrap()[..], b"Fo", "and nothing of what lay there");
    there.process().unwrap();
    sending.wait().unwrap();
}

#[test]
fn dropping_never_blocks() {
    let there = open();
    there.bind("rs-close", USUAL).unwrap();
    there.listen("rs-close-streams", USUAL).unwrap();
    let conn = open();
    conn.bind("rs-close-here", USUAL).unwrap();
    for _ in 0..100 {
        let message = conn.begin_send("self:rs-close", [0; 10000], USUAL);
        let _: Vec<_> = message.into_iter().map(Pending::detach).collect(); // until there is no room
        drop(conn.begin_call("self:rs-close", [0; 10000], USUAL));
    }
    let begun = Instant::now();
    drop(conn.watch("*", USUAL).unwrap());
    drop(conn.begin_connect("self:rs-close-streams", USUAL).unwrap());
    conn.unbind("rs-close-here").unwrap();
    drop(conn);
    assert!(begun.elapsed() < Duration::from_secs(10)); // nobody takes anything: to wait would be for ever
}

#[test]
fn a_stream_is_a_socket_with_an_end_or_a_break() {
    let (here, there) = (open(), open());
    there.listen("rs-shell", USUAL).unwrap();
    let connecting = here.begin_connect("self:rs-shell", LONG).unwrap();
    let come = there.accept().unwrap();
    assert_eq!((come.peer.domid, &come.peer.endpoint[..]), (here.domid(), "rs-shell"));
    let opener = format!("{}.{}.", here.domid(), std::process::id());
    assert!(come.peer.channel.unwrap().starts_with(&opener));
    let mut stream = connecting.wait().unwrap();
    let mut theirs = come.stream;
    drop((here, there)); // no longer needed
    stream.write_all(b"there").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    theirs.read_to_string(&mut text).unwrap();
    assert_eq!(text, "there");
    theirs.write_all(b"back").unwrap();
    let mut data = [0; 4];
    stream.read_exact(&mut data).unwrap();
    assert_eq!(&data, b"back");
    break_stream(theirs);
    assert_eq!(stream.read(&mut data).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn a_watch_tells_who_comes_and_goes_or_why_it_cannot() {
    let (conn, other) = (open(), open());
    let watch = conn.watch("self:rs-seen", USUAL).unwrap();
    assert_eq!(watch.next_timeout(LONG).unwrap().unwrap().kind, EventKind::Listed);
    other.bind("rs-seen", USUAL).unwrap();
    let event = watch.next_timeout(LONG).unwrap().unwrap();
    assert_eq!((event.kind, &event.name[..], event.domid), (EventKind::EndpointUp, "rs-seen", conn.domid()));
    drop(other);
    assert_eq!(watch.next_timeout(LONG).unwrap().unwrap().kind, EventKind::EndpointDown);
    drop(watch);
    assert_eq!(kind_of(conn.watch("no:such:pattern", USUAL).and_then(|watch| watch.next_timeout(LONG))), Kind::Invalid);
}

#[test]
fn questions_are_answered_and_refused() {
    let conn = open();
    assert!(conn.query("status", USUAL).unwrap().starts_with('{'));
    assert_eq!(kind_of(conn.query("nonsense", USUAL)), Kind::Invalid);
    conn.ping("self", LONG).unwrap();
    assert!(conn.max_message() >= conn.max_at_once());
    assert_eq!(kind_of(conn.sent_name("self:rs-nobody")), Kind::NotFound);
    assert_eq!(format!("{:?}", xenmsg::library_version()).replace(", ", "."), concat!("(", env!("CARGO_PKG_VERSION"), ")"));
}

#[test]
fn a_message_waits_for_its_receiver() {
    let (here, there) = (open(), open());
    let sending = here.begin_send("self:rs-late", b"early", Options::usual().wait()).unwrap();
    drop(here.begin_send("self:rs-late", b"dropped", Options::usual().wait()).unwrap());
    assert_eq!(kind_of(here.send("self:rs-never", b"x", Options::from(Duration::from_millis(50)).wait())), Kind::TimedOut);
    assert_eq!(kind_of(here.send("self:rs-never", b"x", USUAL)), Kind::NotFound);
    there.bind("rs-late", USUAL).unwrap();
    let taking = thread::spawn(move || there.recv().unwrap()[..] == *b"early");
    here.block_on(sending).unwrap().unwrap();
    assert!(taking.join().unwrap());
}

#[test]
fn a_connection_opens_in_a_loop() {
    let conn = Connection::begin_open(None, USUAL).unwrap();
    conn.block_on(conn.opened()).unwrap().unwrap();
    conn.bind("rs-opened", USUAL).unwrap();
    let nobody = Connection::begin_open(Some("/nonexistent/socket".as_ref()), USUAL);
    assert_eq!(kind_of(nobody.map(drop)), Kind::NoDaemon);
}

#[test]
fn any_thread_ends_a_wait() {
    let conn = open();
    let waker = conn.waker();
    let thread = thread::spawn(move || {
        waker.wake();
        waker
    });
    assert_eq!(conn.wait(LONG).unwrap(), 0);
    let waker = thread.join().unwrap();
    drop(conn);
    waker.wake(); // of nobody
}

/// Polls a future once and drops it.
fn polled_once<T>(future: impl Future<Output = T>) -> Option<T> {
    #[allow(dead_code)] // the field
    struct Never(u64); // what it points to is within its memory, for tools that look for what is lost
    impl std::task::Wake for Never {
        fn wake(self: std::sync::Arc<Self>) {}
    }
    let waker = std::sync::Arc::new(Never(0)).into();
    match Box::pin(future).as_mut().poll(&mut Context::from_waker(&waker)) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn a_dropped_future_loses_no_message_and_no_stream() {
    let (here, there) = (open(), open());
    there.bind("rs-lose", USUAL).unwrap();
    there.listen("rs-lose-streams", USUAL).unwrap();
    for _ in 0..50 {
        let sending = here.begin_send("self:rs-lose", b"x", USUAL).unwrap();
        let connecting = here.begin_connect("self:rs-lose-streams", LONG).unwrap();
        let (mut messages, mut streams) = (0, 0);
        while messages == 0 || streams == 0 {
            here.process().unwrap();
            messages += usize::from(polled_once(there.recv_async()).is_some());
            streams += usize::from(polled_once(there.incoming()).is_some());
        }
        there.process().unwrap();
        sending.wait().unwrap();
        connecting.wait().unwrap();
    }
    assert!(there.try_recv().unwrap().is_none() && there.try_accept().unwrap().is_none());
}

/// Two futures at once.
struct Both<'a>(Vec<Pin<Box<dyn Future<Output = ()> + 'a>>>);

impl Future for Both<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if self.0.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

#[test]
fn tasks_of_one_connection_wait_for_each_other() {
    let conn = open();
    let taken = Cell::new(0);
    conn.bind("rs-async", USUAL).unwrap();
    let receive = async {
        while taken.get() < 1000 {
            let call = conn.recv_async().await.unwrap();
            call.reply(&call).unwrap();
            taken.set(taken.get() + 1);
        }
    };
    let send = async {
        for i in 0..1000u32 {
            let data = i.to_le_bytes();
            assert_eq!(&conn.begin_call("self:rs-async", data, USUAL).unwrap().await.unwrap()[..], data);
        }
    };
    conn.block_on(Both(vec![Box::pin(receive), Box::pin(send)])).unwrap();
    assert_eq!(taken.get(), 1000);
}

/// The next message, for which its sender may have more to do.
fn take<'c>(conn: &'c Connection, sender: &Connection) -> Message<'c> {
    let end = Instant::now() + LONG;
    loop {
        sender.process().unwrap();
        match conn.try_recv().unwrap() {
            Some(message) => return message,
            None => assert!(Instant::now() < end),
        }
    }
}

#[test]
fn a_call_says_how_long_it_is_wanted_and_when_no_more() {
    let (client, conn) = (open(), open());
    conn.bind("rs-wanted", USUAL).unwrap();
    let call = client.begin_call("self:rs-wanted", b"", Options::usual().timeout(LONG).trace("00-12ab-1")).unwrap();
    let waiting = client.begin_call("self:rs-wanted", b"", USUAL).unwrap();
    let (wanted, other) = (take(&conn, &client), take(&conn, &client));
    assert!(wanted.time_left().unwrap() <= LONG && wanted.time_left().unwrap() > LONG / 2);
    assert_eq!((wanted.trace(), other.trace(), other.time_left()), ("00-12ab-1", "", None));
    assert!(polled_once(wanted.withdrawn()).is_none());
    conn.pause(); // even so it is told
    call.withdraw();
    while !call.is_done() {
        client.wait(LONG).unwrap(); // the server is told when it is known that it was taken
    }
    conn.block_on(wanted.withdrawn()).unwrap();
    assert!(!wanted.wants_reply() && other.wants_reply());
    conn.resume();
    other.reply(b"").unwrap();
    conn.process().unwrap();
    assert_eq!(waiting.wait().unwrap().sender().pid, std::process::id());
    assert_eq!(kind_of(call.wait()), Kind::TimedOut);
    assert_eq!(kind_of(client.send("self:rs-wanted", b"", USUAL.trace("\n"))), Kind::Invalid);
}

#[test]
fn what_is_in_service_goes_on_while_an_endpoint_is_drained() {
    let (client, conn) = (open(), open());
    conn.bind("rs-drain", USUAL).unwrap();
    let call = client.begin_call("self:rs-drain", b"first", USUAL).unwrap();
    let taken = take(&conn, &client);
    let drained = conn.begin_drain("rs-drain", USUAL).unwrap();
    conn.query("status", USUAL).unwrap(); // answered behind it
    assert_eq!(kind_of(open().call("self:rs-drain", b"late", LONG)), Kind::NotFound);
    assert!(!drained.is_done());
    taken.reply(b"served").unwrap();
    conn.process().unwrap();
    assert_eq!(&call.wait().unwrap()[..], b"served");
    drained.wait().unwrap();
}

#[test]
fn who_pauses_takes_nothing_and_room_is_told() {
    let (here, there) = (open(), open());
    there.bind("rs-room", USUAL).unwrap();
    there.pause();
    let data = vec![0; 100000];
    let mut begun = Vec::new();
    let full = loop {
        match here.begin_send("self:rs-room", &data, USUAL) {
            Ok(pending) => begun.push(pending),
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), Some(Kind::Full));
    let room = here.begin_room("self:rs-room", data.len(), USUAL).unwrap();
    here.process().unwrap();
    assert!(there.try_recv().unwrap().is_none() && !room.is_done());
    there.resume();
    while !room.is_done() {
        drop(there.try_recv().unwrap());
        here.process().unwrap();
    }
    here.begin_send("self:rs-room", &data, USUAL).unwrap().detach();
}

#[test]
fn what_is_published_comes_to_who_subscribes() {
    let (publisher, subscriber) = (open(), open());
    let topic = publisher.topic("news", Retain::Last).unwrap();
    topic.publish(b"kept").unwrap();
    subscriber.subscribe("self:news", LONG).unwrap();
    assert_eq!(kind_of(subscriber.subscribe("self:news", LONG)), Kind::Exists);
    while publisher.try_change() != Some(Change::Listeners("news".into(), 1)) {
        publisher.process().unwrap();
    }
    assert_eq!(kind_of(subscriber.send("self:news", b"forged", USUAL)), Kind::WrongKind);
    let next = || subscriber.recv_timeout(LONG).unwrap().unwrap();
    let first = next().notice().unwrap();
    assert_eq!((first.kind, first.messages, first.unknown), (NoticeKind::Subscribed, 1, false));
    assert_eq!(next().notice().unwrap().kind, NoticeKind::Kept);
    let message = next();
    assert_eq!((&message[..], message.endpoint(), message.notice()), (&b"kept"[..], "self:news", None));
    topic.begin_publish(b"more", USUAL).unwrap().wait().unwrap();
    assert_eq!(&next()[..], b"more");
    drop(topic);
    assert_eq!(next().notice().unwrap().kind, NoticeKind::Waiting);
    subscriber.unsubscribe("self:news").unwrap();
    assert_eq!(kind_of(subscriber.subscribe("self:news", Options::usual().keep_oldest())), Kind::Invalid);
    subscriber.begin_subscribe("self:news", Options::usual().queue(3).keep_oldest()).unwrap().wait().unwrap();
    assert_eq!(next().notice().unwrap().kind, NoticeKind::Waiting);
}

#[test]
fn a_look_at_a_message_delivers_it_only_when_it_is_taken() {
    let (here, there) = (open(), open());
    there.bind("rs-look", Options::usual().only_messages()).unwrap();
    assert!(there.try_peek().unwrap().is_none());
    let taken = here.begin_send("self:rs-look", b"one", USUAL).unwrap();
    let copy = there.block_on(there.peek()).unwrap().unwrap();
    assert_eq!((&copy[..], copy.endpoint(), copy.sender().pid), (&b"one"[..], "rs-look", std::process::id()));
    drop(copy); // it stays
    let copy = there.try_peek().unwrap().unwrap();
    assert_eq!(&copy[..], b"one");
    copy.take().unwrap();
    there.process().unwrap();
    taken.wait().unwrap();
    let refused = here.begin_send("self:rs-look", b"two", USUAL).unwrap();
    let copy = there.block_on(there.peek()).unwrap().unwrap();
    assert_eq!(&copy[..], b"two");
    copy.refuse(7).unwrap();
    there.process().unwrap();
    let answer = answer_of(refused.wait());
    assert_eq!(answer.code, 7);
    let late = here.begin_send("self:rs-look", b"three", USUAL).unwrap();
    let copy = there.block_on(there.peek()).unwrap().unwrap();
    drop(late); // withdrawn
    while there.try_peek().unwrap().is_some() {
        here.process().unwrap();
        there.process().unwrap();
    }
    assert_eq!(kind_of(copy.take()), Kind::Cancelled);
}

#[test]
fn programs_share_an_endpoint_if_all_say_so() {
    let (one, other, here) = (open(), open(), open());
    one.bind("rs-shared", Options::usual().shared()).unwrap();
    assert_eq!(kind_of(other.bind("rs-shared", USUAL)), Kind::Exists);
    other.bind("rs-shared", Options::usual().shared()).unwrap();
    one.unbind("rs-shared").unwrap();
    let sending = here.begin_send("self:rs-shared", b"x", USUAL).unwrap();
    assert_eq!(&other.recv().unwrap()[..], b"x");
    other.process().unwrap();
    sending.wait().unwrap();
}

#[test]
fn the_last_value_of_each_key_is_kept() {
    let (publisher, subscriber) = (open(), open());
    let topic = publisher.begin_topic("rs-sensors", Retain::Keys(2)).unwrap();
    topic.bound().wait().unwrap();
    for (key, value) in [("attic", "1"), ("cellar", "2"), ("cellar", "3"), ("attic", ""), ("hall", "4")] {
        topic.publish_value(key, value).unwrap();
    }
    assert_eq!(kind_of(topic.publish_value("\n", b"")), Kind::Invalid);
    subscriber.subscribe("self:rs-sensors", LONG).unwrap();
    let next = || subscriber.recv_timeout(LONG).unwrap().unwrap();
    let first = next().notice().unwrap();
    assert_eq!((first.kind, first.messages), (NoticeKind::Subscribed, 5));
    let mut kept = Vec::new();
    topic.begin_publish(b"5", USUAL.key("hall")).unwrap().wait().unwrap();
    loop {
        let message = next();
        match message.notice() {
            Some(notice) => assert_eq!(notice.kind, NoticeKind::Kept),
            None => kept.push((message.key().to_string(), String::from_utf8_lossy(&message).into_owned())),
        }
        if kept.last().map_or(false, |(_, value)| value == "5") {
            break;
        }
    }
    assert_eq!(kept, [("cellar", "3"), ("hall", "4"), ("hall", "5")].map(|(a, b)| (a.to_string(), b.to_string())));
}

#[test]
fn a_slow_subscriber_is_told_what_is_missing() {
    let (publisher, subscriber) = (open(), open());
    let topic = publisher.topic("rs-flood", Retain::Nothing).unwrap();
    subscriber.subscribe("self:rs-flood", LONG).unwrap();
    assert_eq!(subscriber.recv().unwrap().notice().unwrap().kind, NoticeKind::Subscribed);
    let data = [7; 50000];
    for _ in 0..500 {
        topic.publish(data).unwrap();
    }
    let (mut came, mut missed) = (0, 0);
    while came + missed < 500 {
        let message = subscriber.recv_timeout(LONG).unwrap().unwrap();
        match message.notice() {
            Some(notice) => {
                assert_eq!((notice.kind, notice.unknown), (NoticeKind::Missed, false));
                missed += notice.messages;
            }
            None => {
                assert!(message[..] == data);
                came += 1;
            }
        }
    }
    assert!(missed > 0 && came > 0 && came + missed == 500);
}

// ---- streams within the connection ----

/// Gives back all that comes over one stream to this endpoint, until the sender is dropped.
fn echoing(endpoint: &'static str) -> (mpsc::Sender<()>, thread::JoinHandle<()>) {
    let ((ready, is_ready), (goes_on, is_over)) = (mpsc::channel(), mpsc::channel::<()>());
    let thread = thread::spawn(move || {
        let conn = open();
        let listener = conn.stream_listen(endpoint, LONG).unwrap();
        ready.send(()).unwrap();
        let (stream, peer) = listener.accept().unwrap();
        assert_eq!((peer.domid, peer.pid, &peer.endpoint[..]), (conn.domid(), std::process::id(), endpoint));
        io::copy(&mut &stream, &mut &stream).unwrap();
        stream.end().unwrap();
        while is_over.try_recv() == Err(mpsc::TryRecvError::Empty) {
            conn.wait(Duration::from_millis(10)).unwrap();
        }
    });
    is_ready.recv_timeout(LONG).unwrap();
    (goes_on, thread)
}

/// A stream that `here` has begun, which may have more to do for that.
fn accepted<'c>(listener: &Listener<'c>, here: &Connection) -> (Stream<'c>, Peer) {
    let end = Instant::now() + LONG;
    loop {
        here.process().unwrap();
        match listener.try_accept().unwrap() {
            Some(come) => return come,
            None => assert!(Instant::now() < end),
        }
    }
}

fn errno_of<T>(done: io::Result<T>) -> i32 {
    done.err().and_then(|error| error.raw_os_error()).expect("an error of the system's")
}

#[test]
fn a_stream_of_a_connection_is_read_written_and_ended() {
    let (goes_on, server) = echoing("rs-echo");
    let conn = open();
    let mut stream = conn.stream_connect("self:rs-echo", LONG).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut data = [0; 5];
    stream.read_exact(&mut data).unwrap();
    assert_eq!((&data, stream.read(&mut []).unwrap()), (b"hello", 0));
    // Much in both directions at once, without waiting.
    let sent: Vec<u8> = (0..3_000_000u32).map(|i| (i.wrapping_mul(i) >> 8) as u8).collect();
    let (mut written, mut came, mut buffer) = (0, Vec::new(), [0; 10_000]);
    while came.len() < sent.len() {
        let before = (written, came.len());
        match stream.try_write(&sent[written..]) {
            Ok(size) => written += size,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        match stream.try_read(&mut buffer) {
            Ok(size) => came.extend_from_slice(&buffer[..size]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        if before == (written, came.len()) {
            conn.wait(LONG).unwrap();
        }
    }
    assert!(came == sent);
    stream.end().unwrap();
    assert_eq!(errno_of(stream.write(b"x")), 32); // EPIPE
    assert_eq!(stream.read_to_end(&mut came).unwrap(), 0);
    drop((stream, goes_on));
    server.join().unwrap();
}

#[test]
fn who_does_not_read_a_stream_lets_the_other_side_wait() {
    let (here, there) = (open(), open());
    let listener = there.stream_listen("rs-full", LONG).unwrap();
    let stream = here.begin_stream_connect("self:rs-full", LONG).unwrap();
    assert_eq!(stream.try_write(b"x").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(stream.end().unwrap_err().kind(), io::ErrorKind::NotConnected);
    let (mut theirs, _) = accepted(&listener, &here);
    here.block_on(stream.opened()).unwrap().unwrap();
    let (mut written, mut idle, piece) = (0, 0, [5; 65536]);
    while idle < 100 {
        match stream.try_write(&piece) {
            Ok(size) => (written, idle) = (written + size, 0),
            Err(_) => idle += 1,
        }
        here.process().unwrap();
        there.process().unwrap();
        assert!(written < 64 << 20, "nobody reads that");
    }
    let (mut read, mut buffer) = (0, [0; 100_000]);
    stream.end().unwrap();
    loop {
        here.process().unwrap();
        match theirs.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(size) => read += size,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                there.wait(Duration::from_millis(10)).unwrap();
            }
        }
    }
    assert_eq!(read, written);
    theirs.end().unwrap();
    assert_eq!(theirs.read(&mut buffer).unwrap(), 0);
}

#[test]
fn a_stream_that_is_not_to_be_had_says_why() {
    let (conn, other) = (open(), open());
    assert_eq!(kind_of(conn.stream_connect("self:rs-nowhere", LONG)), Kind::NotFound);
    assert_eq!(kind_of(conn.stream_connect("no address", LONG)), Kind::Invalid);
    assert_eq!(kind_of(conn.stream_connect("self:x", USUAL.at_once())), Kind::Invalid);
    let mut stream = conn.begin_stream_connect("self:rs-nowhere", LONG).unwrap();
    assert_eq!(errno_of(stream.write(b"x")), 2); // ENOENT
    assert_eq!(errno_of(stream.read(&mut [0; 1])), 2);
    assert_eq!(kind_of(conn.block_on(stream.opened()).unwrap()), Kind::NotFound);
    other.bind("rs-messages", USUAL).unwrap();
    assert_eq!(kind_of(conn.stream_connect("self:rs-messages", LONG)), Kind::WrongKind);
    let listener = conn.stream_listen("rs-once", LONG).unwrap();
    assert_eq!(kind_of(conn.stream_listen("rs-once", LONG)), Kind::Exists);
    assert_eq!(kind_of(other.stream_listen("rs-once", LONG)), Kind::Exists);
    let refused = other.begin_stream_listen("rs-once", LONG).unwrap();
    assert_eq!(kind_of(refused.accept()), Kind::Exists);
    assert_eq!(kind_of(other.block_on(refused.incoming()).unwrap()), Kind::Exists);
    assert!(listener.accept_timeout(Duration::from_millis(1)).unwrap().is_none());
    drop((listener, refused));
    drop(conn.stream_listen("rs-once", LONG).unwrap());
    assert_eq!(kind_of(conn.stream_listen("not a name", LONG)), Kind::Invalid);
}

#[test]
fn a_stream_that_is_dropped_breaks_and_so_do_those_of_a_listener() {
    let (here, there) = (open(), open());
    let listener = there.stream_listen("rs-break", LONG).unwrap();
    let connected = || {
        let stream = here.begin_stream_connect("self:rs-break", LONG).unwrap();
        let (theirs, _) = accepted(&listener, &here);
        here.block_on(stream.opened()).unwrap().unwrap();
        (stream, theirs)
    };
    let (stream, mut theirs) = connected();
    stream.try_write(b"before").unwrap();
    here.process().unwrap();
    let mut data = [0; 6];
    theirs.read_exact(&mut data).unwrap();
    drop(stream);
    assert_eq!((&data, errno_of(theirs.read(&mut [0; 1]))), (b"before", 104)); // ECONNRESET
    let (mut first, first_theirs) = connected();
    let waits = here.begin_stream_connect("self:rs-break", LONG).unwrap();
    here.process().unwrap();
    drop(listener);
    there.process().unwrap();
    assert_eq!(errno_of(first.read(&mut [0; 1])), 104);
    assert!(here.block_on(waits.read_some(&mut [0; 1])).unwrap().is_err());
    drop(there.begin_stream_listen("rs-break", LONG).unwrap()); // at once
    drop(first_theirs);
    there.query("status", USUAL).unwrap();
}

#[test]
fn both_kinds_of_streams_meet() {
    let (here, there) = (open(), open());
    let listener = there.stream_listen("rs-meet", LONG).unwrap();
    there.listen("rs-meet-sockets", LONG).unwrap();
    let connecting = here.begin_connect("self:rs-meet", LONG).unwrap();
    let (mut theirs, _) = accepted(&listener, &here);
    let mut socket = connecting.wait().unwrap();
    let stream = here.begin_stream_connect("self:rs-meet-sockets", LONG).unwrap();
    let mut theirs_socket = loop {
        here.process().unwrap();
        if let Some(come) = there.try_accept().unwrap() {
            break come.stream;
        }
    };
    here.block_on(stream.opened()).unwrap().unwrap();
    let mut data = [0; 2];
    socket.write_all(b"to").unwrap();
    theirs.read_exact(&mut data).unwrap();
    assert_eq!(&data, b"to");
    here.block_on(stream.write_whole(b"ot")).unwrap().unwrap();
    theirs_socket.read_exact(&mut data).unwrap();
    assert_eq!(&data, b"ot");
}

async fn echo(stream: Stream<'_>) {
    let mut buffer = [0; 3000];
    loop {
        match stream.read_some(&mut buffer).await.unwrap() {
            0 => return stream.end().unwrap(),
            size => stream.write_whole(&buffer[..size]).await.unwrap(),
        }
    }
}

#[test]
fn tasks_of_one_connection_use_many_streams_at_once() {
    let conn = open();
    let listener = conn.begin_stream_listen("rs-many", LONG).unwrap();
    let serve = async {
        listener.listening().await.unwrap();
        let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = Vec::new();
        for _ in 0..30 {
            tasks.push(Box::pin(echo(listener.incoming().await.unwrap().0)));
        }
        Both(tasks).await;
    };
    let mut tasks: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = vec![Box::pin(serve)];
    for i in 0..30u8 {
        let stream = conn.begin_stream_connect("self:rs-many", LONG).unwrap();
        tasks.push(Box::pin(async move {
            let sent = vec![i; 200_000];
            let (mut came, mut buffer) = (0, [0; 7000]);
            stream.opened().await.unwrap();
            let write = async {
                stream.write_whole(&sent).await.unwrap();
                stream.end().unwrap();
            };
            let read = async {
                loop {
                    match stream.read_some(&mut buffer).await.unwrap() {
                        0 => break,
                        size => came += buffer[..size].iter().filter(|&&byte| byte == i).count(),
                    }
                }
            };
            Both(vec![Box::pin(write), Box::pin(read)]).await;
            assert_eq!(came, sent.len());
        }));
    }
    conn.block_on(Both(tasks)).unwrap();
}

// ---- what harms nobody ----

/// Never dropped, but known to tools that look for what is lost.
fn leak<T>(value: T) {
    static LEAKED: Mutex<Vec<usize>> = Mutex::new(Vec::new());
    LEAKED.lock().unwrap().push(Box::into_raw(Box::new(value)) as usize);
}

#[test]
fn what_is_leaked_harms_nobody() {
    let (here, there) = (open(), open());
    there.bind("rs-leak", Options::usual().lend()).unwrap();
    there.listen("rs-leak-sockets", LONG).unwrap();
    let listener = there.stream_listen("rs-leak-streams", LONG).unwrap();
    let topic = there.begin_topic("rs-leak-topic", Retain::Last).unwrap();
    let looking = here.watch("*", USUAL).unwrap();
    drop(polled_once(looking.next())); // the first change may have come by then
    let sending = here.begin_send("self:rs-leak", [1; 20000], USUAL).unwrap();
    let mut call = here.begin_call("self:rs-leak", b"call", LONG).unwrap();
    let stream = here.begin_stream_connect("self:rs-leak-streams", LONG).unwrap();
    let draft = here.reserve("self:rs-leak", 10000).unwrap();
    assert!(polled_once(&mut call).is_none() && polled_once(stream.read_some(&mut [0; 1])).is_none());
    here.process().unwrap();
    let (message, request) = (take(&there, &here), take(&there, &here));
    assert!(polled_once(request.withdrawn()).is_none());
    leak(sending);
    leak(call);
    leak(stream);
    leak(draft);
    leak(looking);
    assert_eq!(here.reserve("self:rs-leak", 1).err().and_then(|error| error.kind()), Some(Kind::Other)); // EBUSY
    let come = accepted(&listener, &here);
    drop(here); // whatever was begun has its outcome now
    there.ping("self", LONG).unwrap();
    leak(message);
    leak(request);
    leak(come);
    leak(listener);
    leak(topic);
    leak(there.begin_bind("rs-leak-more", USUAL).unwrap());
    leak(there.begin_stream_listen("rs-leak-more-streams", USUAL).unwrap());
    thread::spawn(move || drop(there)).join().unwrap(); // elsewhere, even
}

#[test]
fn a_listener_that_is_dropped_before_it_is_there_harms_nobody() {
    let (here, there) = (open(), open());
    for i in 0..50 {
        let listener = there.begin_stream_listen("rs-hasty", LONG).unwrap();
        // Which one of the two would be ended? So there is only one.
        assert_eq!(kind_of(there.begin_bind("rs-hasty", USUAL)), Kind::Exists);
        drop(listener);
        drop(here.begin_stream_connect("self:rs-hasty", LONG).unwrap());
        if i % 2 == 0 {
            here.process().unwrap();
            there.process().unwrap();
        }
    }
    let _ = there.unbind("rs-hasty");
    there.query("status", USUAL).unwrap();
    let stream = here.begin_stream_connect("self:rs-hasty", LONG).unwrap();
    let deadline = Instant::now() + LONG;
    while polled_once(stream.read_some(&mut [0; 1])).is_none() {
        assert!(Instant::now() < deadline);
        here.wait(Duration::from_millis(10)).unwrap();
        there.process().unwrap();
    }
}

thread_local! {
    static CONNECTION: RefCell<Option<Rc<Connection>>> = RefCell::default();
}

/// Uses the connection of its thread within wake(), and within drop().
struct Busy;

impl Busy {
    fn use_it() {
        if let Ok(Some(conn)) = CONNECTION.try_with(|conn| conn.borrow().clone()) {
            conn.process().unwrap();
            drop(conn.begin_send("self:rs-busy", b"more", USUAL));
            let _ = conn.try_recv().map(drop);
            let _ = conn.flush(Duration::ZERO);
        }
    }
}

impl std::task::Wake for Busy {
    fn wake(self: Arc<Self>) {
        Busy::use_it();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        Busy::use_it();
    }
}

#[test]
fn a_waker_may_use_the_connection() {
    let conn = Rc::new(open());
    CONNECTION.with(|place| *place.borrow_mut() = Some(conn.clone()));
    conn.bind("rs-busy", USUAL).unwrap();
    let listener = conn.stream_listen("rs-busy-streams", LONG).unwrap();
    let watch = conn.watch("self:rs-busy*", USUAL).unwrap();
    let waker = || std::task::Waker::from(Arc::new(Busy));
    for _ in 0..20 {
        let stream = conn.begin_stream_connect("self:rs-busy-streams", LONG).unwrap();
        let mut call = conn.begin_call("self:rs-busy", b"", Duration::from_millis(5)).unwrap();
        let mut futures: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = vec![
            Box::pin(async { drop(stream.opened().await) }),
            Box::pin(async { drop(watch.next().await) }),
            Box::pin(async { drop(listener.incoming().await) }),
            Box::pin(async { drop(conn.recv_async().await) }),
            Box::pin(async { drop((&mut call).await) }),
        ];
        let end = Instant::now() + LONG;
        while futures.len() > 2 {
            futures.retain_mut(|future| future.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
            conn.wait(Duration::from_millis(1)).unwrap();
            assert!(Instant::now() < end);
        }
    }
    CONNECTION.with(|place| place.borrow_mut().take());
}

/// Counts.
#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_message_that_nobody_takes_keeps_no_task_busy() {
    let (conn, other) = (open(), open());
    conn.bind("rs-lies", USUAL).unwrap();
    other.begin_send("self:rs-lies", b"", USUAL).unwrap().detach();
    other.process().unwrap();
    assert!(conn.wait(LONG).unwrap() > 0);
    let watches = [conn.watch("self:rs-none", USUAL).unwrap(), conn.watch("self:rs-none-either", USUAL).unwrap()];
    for watch in &watches {
        assert_eq!(watch.next_timeout(LONG).unwrap().unwrap().kind, EventKind::Listed);
    }
    let mut tasks: Vec<_> = watches.iter().map(|watch| (Box::pin(watch.next()), Arc::new(Woken::default()))).collect();
    let mut polls = 0;
    for (task, woken) in &mut tasks {
        assert!(task.as_mut().poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
    }
    while let Some((task, woken)) = tasks.iter_mut().find(|(_, woken)| woken.0.swap(0, Ordering::Relaxed) > 0) {
        assert!(task.as_mut().poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
        polls += 1;
        assert!(polls < 50, "they wake each other");
    }
}

#[test]
fn a_function_that_waits_wakes_tasks_as_well() {
    let (conn, other) = (open(), open());
    let (watch, woken) = (conn.watch("self:rs-waking", USUAL).unwrap(), Arc::new(Woken::default()));
    assert_eq!(watch.next_timeout(LONG).unwrap().unwrap().kind, EventKind::Listed);
    let mut next = Box::pin(watch.next());
    assert!(next.as_mut().poll(&mut Context::from_waker(&woken.clone().into())).is_pending());
    other.bind("rs-waking", USUAL).unwrap();
    let end = Instant::now() + LONG;
    while woken.0.load(Ordering::Relaxed) == 0 {
        assert!(conn.recv_timeout(Duration::from_millis(10)).unwrap().is_none() && Instant::now() < end);
    }
    drop(conn.block_on(next).unwrap().unwrap());
}
