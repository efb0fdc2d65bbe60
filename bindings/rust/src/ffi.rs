// SPDX-License-Identifier: LGPL-2.1-or-later
//! What of `xenmsg.h` and `xenmsg-stream.h` is used here. `tests/integration/test_rust.py` holds it against the headers: the parameters of each function
//! by their types, sizes, offsets and constants by a compiler.
#![allow(non_camel_case_types, missing_docs)]

use std::os::raw::{c_char, c_int, c_uint, c_void};

macro_rules! opaque {
    ($($name:ident)*) => { $(
        #[repr(C)]
        pub struct $name {
            _private: [u8; 0],
        }
    )* };
}

opaque! { xenmsg xenmsg_message xenmsg_op xenmsg_peer xenmsg_stream }

pub const XENMSG_USUAL_MS: c_int = c_int::MIN;
pub const XENMSG_NAME_SIZE: usize = 128;

pub const XENMSG_ONLY_MESSAGES: c_uint = 1;
pub const XENMSG_ONLY_CALLS: c_uint = 2;
pub const XENMSG_LEND: c_uint = 256;
pub const XENMSG_FROM_HOSTS: c_uint = 512;
pub const XENMSG_AT_ONCE: c_uint = 1024;
pub const XENMSG_SHARED: c_uint = 4096;
pub const XENMSG_WAIT: c_uint = 32768;
pub const XENMSG_RECONNECT: c_uint = 2048;
pub const XENMSG_TOPIC: c_uint = 8192;
pub const XENMSG_RETAIN: c_uint = 16384;
pub const XENMSG_KEEP_OLDEST: c_uint = 65536;
pub const XENMSG_COUNT_LISTENERS: c_uint = 131072;
pub const XENMSG_PATTERN: c_uint = 262144;

pub const XENMSG_SUBSCRIBED: c_uint = 1;
pub const XENMSG_MISSED: c_uint = 2;
pub const XENMSG_WAITING: c_uint = 3;
pub const XENMSG_ENDED: c_uint = 4;
pub const XENMSG_KEPT: c_uint = 5;

pub const XENMSG_FATE_UNKNOWN: c_uint = 0;
pub const XENMSG_FATE_DONE: c_uint = 1;
pub const XENMSG_FATE_NOT_DONE: c_uint = 2;

pub const XENMSG_DOMAIN_UP: c_uint = 1;
pub const XENMSG_DOMAIN_DOWN: c_uint = 2;
pub const XENMSG_ENDPOINT_UP: c_uint = 3;
pub const XENMSG_ENDPOINT_DOWN: c_uint = 4;
pub const XENMSG_DOMAIN_AWAY: c_uint = 5;
pub const XENMSG_HOST_UP: c_uint = 6;
pub const XENMSG_HOST_DOWN: c_uint = 7;
pub const XENMSG_LISTED: c_uint = 8;

pub const XENMSG_DAEMON_LOST: c_uint = 1;
pub const XENMSG_DAEMON_BACK: c_uint = 2;
pub const XENMSG_DAEMON_REFUSED: c_uint = 3;
pub const XENMSG_RENUMBERED: c_uint = 4;
pub const XENMSG_LISTENERS: c_uint = 5;
pub const XENMSG_NOT_SUBSCRIBED: c_uint = 6;

/// Linux's numbers, as they are wherever Xen runs (x86 and Arm).
pub mod errno {
    pub const ENOENT: i32 = 2;
    pub const EINTR: i32 = 4;
    pub const EIO: i32 = 5;
    pub const EAGAIN: i32 = 11;
    pub const ENOMEM: i32 = 12;
    pub const EACCES: i32 = 13;
    pub const EBUSY: i32 = 16;
    pub const EEXIST: i32 = 17;
    pub const EINVAL: i32 = 22;
    pub const ENODATA: i32 = 61;
    pub const EMSGSIZE: i32 = 90;
    pub const EPROTOTYPE: i32 = 91;
    pub const EOPNOTSUPP: i32 = 95;
    pub const ECHILD: i32 = 10;
    pub const ECONNREFUSED: i32 = 111;
    pub const ECONNRESET: i32 = 104;
    pub const ENOBUFS: i32 = 105;
    pub const ENOTCONN: i32 = 107;
    pub const ETIMEDOUT: i32 = 110;
    pub const EHOSTDOWN: i32 = 112;
    pub const EHOSTUNREACH: i32 = 113;
    pub const EALREADY: i32 = 114;
    pub const EREMOTEIO: i32 = 121;
    pub const ECANCELED: i32 = 125;
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct xenmsg_options {
    pub size: usize,
    pub timeout_ms: c_int,
    pub flags: c_uint,
    pub trace: *const c_char,
    pub key: *const c_char,
    pub keys: c_uint,
    pub queue: c_uint,
}

#[repr(C)]
pub struct xenmsg_result {
    pub error: c_int,
    pub fate: c_uint,
    pub code: c_uint,
    pub exit_status: c_int,
    pub reason: *const c_char,
    pub reply: *mut xenmsg_message,
    pub json: *mut c_char,
    pub round_trip_ns: u64,
    pub stream: c_int,
    pub reserved: [u64; 4],
}

#[repr(C)]
pub struct xenmsg_event {
    pub kind: c_uint,
    pub domid: u32,
    pub name: *const c_char,
    pub domain_name: *const c_char,
    pub host: *const c_char,
}

#[repr(C)]
pub struct xenmsg_notice {
    pub kind: c_uint,
    pub error: c_int,
    pub count: u64,
    pub unknown: c_int,
}

#[repr(C)]
pub struct xenmsg_change {
    pub kind: c_uint,
    pub error: c_int,
    pub watch: c_int,
    pub endpoint: *const c_char,
    pub reason: *const c_char,
    pub listeners: u64,
}

#[repr(C)]
pub struct xenmsg_stream_callbacks {
    pub size: usize,
    pub opened: Option<unsafe extern "C" fn(*mut c_void, *mut xenmsg_stream)>,
    pub data: Option<unsafe extern "C" fn(*mut c_void, *mut xenmsg_stream, *const c_void, usize) -> usize>,
    pub ended: Option<unsafe extern "C" fn(*mut c_void, *mut xenmsg_stream)>,
    pub room: Option<unsafe extern "C" fn(*mut c_void, *mut xenmsg_stream)>,
    pub broken: Option<unsafe extern "C" fn(*mut c_void, *mut xenmsg_stream, c_int)>,
}

pub type xenmsg_done = Option<unsafe extern "C" fn(*mut c_void, *const xenmsg_result)>;
pub type xenmsg_message_handler = Option<unsafe extern "C" fn(*mut c_void, *mut xenmsg_message)>;
pub type xenmsg_withdrawn = Option<unsafe extern "C" fn(*mut c_void, *mut xenmsg_message)>;
pub type xenmsg_stream_incoming = Option<unsafe extern "C" fn(*mut c_void, *mut xenmsg_stream, *const xenmsg_peer)>;
pub type xenmsg_event_handler = Option<unsafe extern "C" fn(*mut c_void, *const xenmsg_event)>;
pub type xenmsg_change_handler = Option<unsafe extern "C" fn(*mut c_void, *const xenmsg_change)>;

extern "C" {
    pub fn xenmsg_version() -> u32;
    pub fn xenmsg_op_withdraw(op: *mut xenmsg_op) -> c_int;

    pub fn xenmsg_open(conn: *mut *mut xenmsg, socket_path: *const c_char, options: *const xenmsg_options) -> c_int;
    pub fn xenmsg_begin_open(
        conn: *mut *mut xenmsg,
        socket_path: *const c_char,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
    ) -> c_int;
    pub fn xenmsg_close(conn: *mut xenmsg);
    pub fn xenmsg_fd(conn: *mut xenmsg) -> c_int;
    pub fn xenmsg_process(conn: *mut xenmsg) -> c_int;
    pub fn xenmsg_wait(conn: *mut xenmsg, timeout_ms: c_int) -> c_int;
    pub fn xenmsg_flush(conn: *mut xenmsg, timeout_ms: c_int) -> c_int;
    pub fn xenmsg_wake(conn: *mut xenmsg) -> c_int;
    pub fn xenmsg_on_change(conn: *mut xenmsg, handler: xenmsg_change_handler, userdata: *mut c_void);
    pub fn xenmsg_reason(conn: *mut xenmsg, error: c_int) -> *const c_char;
    pub fn xenmsg_domid(conn: *mut xenmsg) -> u32;
    pub fn xenmsg_max_message(conn: *mut xenmsg) -> usize;
    pub fn xenmsg_max_at_once(conn: *mut xenmsg) -> usize;
    pub fn xenmsg_sent_name(
        conn: *mut xenmsg,
        address: *const c_char,
        flags: c_uint,
        name: *mut c_char,
        size: usize,
    ) -> c_int;

    pub fn xenmsg_bind(
        conn: *mut xenmsg,
        endpoint: *const c_char,
        options: *const xenmsg_options,
        handler: xenmsg_message_handler,
        userdata: *mut c_void,
    ) -> c_int;
    pub fn xenmsg_begin_bind(
        conn: *mut xenmsg,
        endpoint: *const c_char,
        options: *const xenmsg_options,
        handler: xenmsg_message_handler,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_unbind(conn: *mut xenmsg, endpoint: *const c_char) -> c_int;
    pub fn xenmsg_begin_drain(
        conn: *mut xenmsg,
        endpoint: *const c_char,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_recv(conn: *mut xenmsg, message: *mut *mut xenmsg_message, timeout_ms: c_int) -> c_int;
    pub fn xenmsg_peek(conn: *mut xenmsg, message: *mut *mut xenmsg_message) -> c_int;
    pub fn xenmsg_take(conn: *mut xenmsg, message: *const xenmsg_message) -> c_int;
    pub fn xenmsg_refuse(conn: *mut xenmsg, message: *const xenmsg_message, code: c_uint) -> c_int;

    pub fn xenmsg_pause(conn: *mut xenmsg) -> c_int;
    pub fn xenmsg_resume(conn: *mut xenmsg) -> c_int;

    pub fn xenmsg_message_data(message: *mut xenmsg_message) -> *mut c_void;
    pub fn xenmsg_message_size(message: *const xenmsg_message) -> usize;
    pub fn xenmsg_message_endpoint(message: *const xenmsg_message) -> *const c_char;
    pub fn xenmsg_message_sender(message: *const xenmsg_message) -> *const xenmsg_peer;
    pub fn xenmsg_message_wants_reply(message: *const xenmsg_message) -> c_int;
    pub fn xenmsg_message_time_left(message: *const xenmsg_message) -> c_int;
    pub fn xenmsg_message_key(message: *const xenmsg_message) -> *const c_char;
    pub fn xenmsg_message_trace(message: *const xenmsg_message) -> *const c_char;
    pub fn xenmsg_message_name(message: *const xenmsg_message, name: *mut c_char, size: usize) -> c_int;
    pub fn xenmsg_message_on_withdrawn(
        message: *mut xenmsg_message,
        withdrawn: xenmsg_withdrawn,
        userdata: *mut c_void,
    ) -> c_int;
    pub fn xenmsg_message_detach(message: *mut xenmsg_message) -> c_int;
    pub fn xenmsg_message_free(message: *mut xenmsg_message);

    pub fn xenmsg_send(
        conn: *mut xenmsg,
        address: *const c_char,
        data: *const c_void,
        size: usize,
        options: *const xenmsg_options,
        result: *mut xenmsg_result,
    ) -> c_int;
    pub fn xenmsg_begin_send(
        conn: *mut xenmsg,
        address: *const c_char,
        data: *const c_void,
        size: usize,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_begin_await_room(
        conn: *mut xenmsg,
        address: *const c_char,
        size: usize,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_reserve(conn: *mut xenmsg, address: *const c_char, size: usize, data: *mut *mut c_void) -> c_int;
    pub fn xenmsg_commit(
        conn: *mut xenmsg,
        size: usize,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_unreserve(conn: *mut xenmsg);

    pub fn xenmsg_call(
        conn: *mut xenmsg,
        address: *const c_char,
        data: *const c_void,
        size: usize,
        options: *const xenmsg_options,
        result: *mut xenmsg_result,
    ) -> c_int;
    pub fn xenmsg_begin_call(
        conn: *mut xenmsg,
        address: *const c_char,
        data: *const c_void,
        size: usize,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_reply(message: *mut xenmsg_message, data: *const c_void, size: usize) -> c_int;
    pub fn xenmsg_begin_await_reply_room(
        message: *mut xenmsg_message,
        size: usize,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_reply_error(message: *mut xenmsg_message, code: c_uint, data: *const c_void, size: usize) -> c_int;
    pub fn xenmsg_reply_exit_status(message: *mut xenmsg_message, status: c_int) -> c_int;

    pub fn xenmsg_connect(conn: *mut xenmsg, address: *const c_char, options: *const xenmsg_options) -> c_int;
    pub fn xenmsg_begin_connect(
        conn: *mut xenmsg,
        address: *const c_char,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_break(stream: c_int);
    pub fn xenmsg_break_reason(stream: c_int) -> *const c_char;
    pub fn xenmsg_listen(conn: *mut xenmsg, endpoint: *const c_char, options: *const xenmsg_options) -> c_int;
    pub fn xenmsg_begin_listen(
        conn: *mut xenmsg,
        endpoint: *const c_char,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_accept(conn: *mut xenmsg, options: *const xenmsg_options, peer: *mut *const xenmsg_peer) -> c_int;
    pub fn xenmsg_begin_stream_listen(
        conn: *mut xenmsg,
        endpoint: *const c_char,
        options: *const xenmsg_options,
        incoming: xenmsg_stream_incoming,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_stream_connect(
        conn: *mut xenmsg,
        address: *const c_char,
        options: *const xenmsg_options,
        callbacks: *const xenmsg_stream_callbacks,
        userdata: *mut c_void,
        stream: *mut *mut xenmsg_stream,
    ) -> c_int;
    pub fn xenmsg_stream_set_callbacks(
        stream: *mut xenmsg_stream,
        callbacks: *const xenmsg_stream_callbacks,
        userdata: *mut c_void,
    );
    pub fn xenmsg_stream_write(stream: *mut xenmsg_stream, data: *const c_void, size: usize) -> isize;
    pub fn xenmsg_stream_end(stream: *mut xenmsg_stream);
    pub fn xenmsg_stream_stop(stream: *mut xenmsg_stream);
    pub fn xenmsg_stream_under_way(stream: *const xenmsg_stream) -> u64;
    pub fn xenmsg_stream_resume(stream: *mut xenmsg_stream);
    pub fn xenmsg_stream_close(stream: *mut xenmsg_stream);
    pub fn xenmsg_stream_break(stream: *mut xenmsg_stream, error: c_int);
    pub fn xenmsg_peer_domid(peer: *const xenmsg_peer) -> u32;
    pub fn xenmsg_peer_uid(peer: *const xenmsg_peer) -> u32;
    pub fn xenmsg_peer_gid(peer: *const xenmsg_peer) -> u32;
    pub fn xenmsg_peer_pid(peer: *const xenmsg_peer) -> u32;
    pub fn xenmsg_peer_domain_name(peer: *const xenmsg_peer) -> *const c_char;
    pub fn xenmsg_peer_host(peer: *const xenmsg_peer) -> *const c_char;
    pub fn xenmsg_peer_endpoint(peer: *const xenmsg_peer) -> *const c_char;
    pub fn xenmsg_peer_channel(peer: *const xenmsg_peer, name: *mut c_char, size: usize) -> c_int;

    pub fn xenmsg_begin_watch(
        conn: *mut xenmsg,
        pattern: *const c_char,
        options: *const xenmsg_options,
        handler: xenmsg_event_handler,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_unwatch(conn: *mut xenmsg, watch: c_int) -> c_int;
    pub fn xenmsg_subscribe(
        conn: *mut xenmsg,
        address: *const c_char,
        options: *const xenmsg_options,
        handler: xenmsg_message_handler,
        userdata: *mut c_void,
    ) -> c_int;
    pub fn xenmsg_begin_subscribe(
        conn: *mut xenmsg,
        address: *const c_char,
        options: *const xenmsg_options,
        handler: xenmsg_message_handler,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_unsubscribe(conn: *mut xenmsg, address: *const c_char) -> c_int;
    pub fn xenmsg_message_notice(message: *const xenmsg_message) -> *const xenmsg_notice;
    pub fn xenmsg_begin_query(
        conn: *mut xenmsg,
        what: *const c_char,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
    pub fn xenmsg_begin_ping(
        conn: *mut xenmsg,
        domain: *const c_char,
        options: *const xenmsg_options,
        done: xenmsg_done,
        userdata: *mut c_void,
        op: *mut *mut xenmsg_op,
    ) -> c_int;
}

/// Functions of the C library that are needed besides.
pub mod libc {
    use std::os::raw::{c_int, c_short, c_ulong, c_void};

    #[repr(C)]
    pub struct pollfd {
        pub fd: c_int,
        pub events: c_short,
        pub revents: c_short,
    }

    pub const POLLIN: c_short = 1;

    extern "C" {
        pub fn poll(fds: *mut pollfd, count: c_ulong, timeout_ms: c_int) -> c_int;
        pub fn free(memory: *mut c_void);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{size_of, size_of_val, MaybeUninit};
    use std::ptr::addr_of;

    /// A compiler of C checks it with the header. All fields have to be named.
    macro_rules! layout {
        ($name:ident: $($field:ident)*) => {
            let place = MaybeUninit::<$name>::zeroed();
            let place: &$name = unsafe { &*place.as_ptr() };
            let $name { $($field: _),* } = place;
            println!("_Static_assert(sizeof(struct {0}) == {1}, \"size of {0}\");", stringify!($name), size_of::<$name>());
            $(
                let offset = addr_of!(place.$field) as usize - place as *const $name as usize;
                println!("_Static_assert(offsetof(struct {0}, {1}) == {2}, \"{1} of {0}\");", stringify!($name),
                    stringify!($field), offset);
                println!("_Static_assert(sizeof(((struct {0} *)0)->{1}) == {2}, \"size of {1}\");", stringify!($name),
                    stringify!($field), size_of_val(&place.$field));
            )*
        };
    }

    #[test]
    fn layout_is_printed_for_the_c_compiler() {
        layout!(xenmsg_options: size timeout_ms flags trace key keys queue);
        layout!(xenmsg_result: error fate code exit_status reason reply json round_trip_ns stream reserved);
        layout!(xenmsg_event: kind domid name domain_name host);
        layout!(xenmsg_change: kind error watch endpoint reason listeners);
        layout!(xenmsg_notice: kind error count unknown);
        layout!(xenmsg_stream_callbacks: size opened data ended room broken);
    }
}
