# SPDX-License-Identifier: LGPL-2.1-or-later
if ENABLE_NATS
dist_man_MANS += doc/xenmsg-gateway.8
endif
dist_man_MANS += doc/xenmsg.1 doc/xenmsg.3 doc/xenmsg-policy.5 doc/xenmsg-activation.5 doc/xenmsgd.8 doc/xenmsgd.conf.5
# A page for each group of functions, and a link to it for each other function of the group.
dist_man_MANS += \
	doc/man3/xenmsg_bind.3 doc/man3/xenmsg_call.3 doc/man3/xenmsg_connect.3 doc/man3/xenmsg_message_data.3 \
	doc/man3/xenmsg_op_withdraw.3 doc/man3/xenmsg_open.3 doc/man3/xenmsg_pause.3 doc/man3/xenmsg_peek.3 doc/man3/xenmsg_process.3 doc/man3/xenmsg_query.3 doc/man3/xenmsg_reason.3 \
	doc/man3/xenmsg_reply.3 doc/man3/xenmsg_send.3 doc/man3/xenmsg_stream_connect.3 doc/man3/xenmsg_subscribe.3 doc/man3/xenmsg_watch.3
dist_man_MANS += \
	doc/man3/xenmsg_accept.3 doc/man3/xenmsg_begin_bind.3 doc/man3/xenmsg_break.3 doc/man3/xenmsg_break_reason.3 \
	doc/man3/xenmsg_begin_call.3 doc/man3/xenmsg_begin_query.3 doc/man3/xenmsg_close.3 \
	doc/man3/xenmsg_domid.3 doc/man3/xenmsg_notice_name.3 doc/man3/xenmsg_event_name.3 doc/man3/xenmsg_change_name.3 doc/man3/xenmsg_error_text.3 doc/man3/xenmsg_fd.3 doc/man3/xenmsg_flush.3 \
	doc/man3/xenmsg_listen.3 doc/man3/xenmsg_max_message.3 doc/man3/xenmsg_message_detach.3 doc/man3/xenmsg_message_endpoint.3 \
	doc/man3/xenmsg_message_free.3 doc/man3/xenmsg_message_sender.3 doc/man3/xenmsg_message_size.3 \
	doc/man3/xenmsg_drain.3 doc/man3/xenmsg_begin_drain.3 doc/man3/xenmsg_resume.3 doc/man3/xenmsg_message_on_withdrawn.3 doc/man3/xenmsg_await_room.3 \
	doc/man3/xenmsg_begin_await_room.3 doc/man3/xenmsg_await_reply_room.3 doc/man3/xenmsg_begin_await_reply_room.3 \
	doc/man3/xenmsg_message_time_left.3 doc/man3/xenmsg_message_trace.3 doc/man3/xenmsg_message_name.3 \
	doc/man3/xenmsg_peer_channel.3 \
	doc/man3/xenmsg_message_wants_reply.3 doc/man3/xenmsg_begin_open.3 doc/man3/xenmsg_begin_listen.3 \
	doc/man3/xenmsg_peer_domain_name.3 doc/man3/xenmsg_peer_domid.3 doc/man3/xenmsg_peer_endpoint.3 doc/man3/xenmsg_peer_gid.3 doc/man3/xenmsg_peer_host.3 doc/man3/xenmsg_peer_pid.3 doc/man3/xenmsg_peer_uid.3 doc/man3/xenmsg_ping.3 doc/man3/xenmsg_begin_send.3 doc/man3/xenmsg_begin_ping.3 doc/man3/xenmsg_recv.3 doc/man3/xenmsg_refuse.3 \
	doc/man3/xenmsg_reply_error.3 doc/man3/xenmsg_reply_exit_status.3 doc/man3/xenmsg_version.3 \
	doc/man3/xenmsg_take.3 doc/man3/xenmsg_on_change.3 \
	doc/man3/xenmsg_wake.3 doc/man3/xenmsg_begin_connect.3 doc/man3/xenmsg_begin_watch.3 doc/man3/xenmsg_unbind.3 doc/man3/xenmsg_unwatch.3 doc/man3/xenmsg_wait.3 \
	doc/man3/xenmsg_reserve.3 doc/man3/xenmsg_commit.3 doc/man3/xenmsg_unreserve.3 \
	doc/man3/xenmsg_max_at_once.3 doc/man3/xenmsg_sent_name.3 doc/man3/xenmsg_begin_subscribe.3 doc/man3/xenmsg_unsubscribe.3 doc/man3/xenmsg_message_key.3 doc/man3/xenmsg_message_notice.3 \
	\
	doc/man3/xenmsg_stream_listen.3 doc/man3/xenmsg_begin_stream_listen.3 doc/man3/xenmsg_stream_set_callbacks.3 \
	doc/man3/xenmsg_stream_write.3 doc/man3/xenmsg_stream_end.3 doc/man3/xenmsg_stream_resume.3 \
	doc/man3/xenmsg_stream_stop.3 \
	doc/man3/xenmsg_stream_under_way.3 \
	doc/man3/xenmsg_stream_break.3 doc/man3/xenmsg_stream_close.3
dist_doc_DATA += HACKING.md NEWS README.md doc/architecture.md doc/first-hour.md doc/go.md doc/handover.md doc/hosts.md doc/metrics.md doc/trouble.md doc/promises.md doc/protocol.md doc/python.md doc/rust.md doc/running-on-xen.md doc/security.md doc/tutorial.md doc/vchan.md doc/xen-and-linux.md doc/status.schema.json \
	doc/commands.schema.json \
	doc/way-of-a-message.svg doc/terminal-doctor.svg doc/terminal-status.svg doc/terminal-top.svg
EXTRA_DIST += scripts/demo scripts/draw doc/terminal-top.txt doc/way-of-a-message.dot

# Where they are installed the pages stand beside the README, above the examples.
install-data-hook: install-doc-links
.PHONY: install-doc-links
install-doc-links:
	cd "$(DESTDIR)$(docdir)" && sed -i -e 's|](\.\./examples/|](examples/|g' -e 's|](\.\./README|](README|g' -e 's|](doc/|](|g' *.md

performancedir = $(docdir)/performance
dist_performance_DATA = doc/performance/README.md doc/performance/results.md \
	doc/performance/overview.svg doc/performance/rate.svg doc/performance/scale.svg doc/performance/topics-rate.svg
decisionsdir = $(docdir)/decisions
dist_decisions_DATA = \
	doc/decisions/0001-links-are-byte-streams-with-positions.md \
	doc/decisions/0002-consumed-means-delivered.md \
	doc/decisions/0003-every-send-ends-in-one-answer.md \
	doc/decisions/0004-a-call-is-a-message-and-a-message-back.md \
	doc/decisions/0005-cancelling-by-compare-and-swap.md \
	doc/decisions/0006-three-local-rings.md \
	doc/decisions/0007-who-may-wait-for-whom.md \
	doc/decisions/0008-fairness-of-a-hops-output.md \
	doc/decisions/0009-rings-are-untrusted-memory.md \
	doc/decisions/0010-sleeping-and-waking.md \
	doc/decisions/0011-looking-before-sleeping.md \
	doc/decisions/0012-the-vchan-in-the-stock-layout.md \
	doc/decisions/0013-discovery-through-xenstore-alone.md \
	doc/decisions/0014-who-is-dead.md \
	doc/decisions/0015-the-opener-pays.md \
	doc/decisions/0016-shares.md \
	doc/decisions/0017-what-others-make-us-do-in-xenstore.md \
	doc/decisions/0018-time-in-units-and-turns.md \
	doc/decisions/0019-nobodys-descriptor-makes-us-wait.md \
	doc/decisions/0020-a-keeper-of-old-event-channels.md \
	doc/decisions/0021-a-policy-is-read-whole.md \
	doc/decisions/0022-streams-are-sockets.md \
	doc/decisions/0023-identity.md \
	doc/decisions/0024-names-come-from-domain-0.md \
	doc/decisions/0025-floors-are-folders.md \
	doc/decisions/0026-phases-without-reentrancy.md \
	doc/decisions/0027-discovery-costs-what-is-used.md \
	doc/decisions/0030-a-session-outlives-its-vchan.md \
	doc/decisions/0031-relay-is-a-next-hop.md \
	doc/decisions/0032-started-on-demand.md \
	doc/decisions/0033-streams-for-many.md \
	doc/decisions/0034-a-ring-moves-while-it-is-used.md \
	doc/decisions/0035-hosts-are-peers-behind-a-gateway.md \
	doc/decisions/0036-the-gateway-shares-memory.md \
	doc/decisions/0037-many-streams-in-one-session.md \
	doc/decisions/0038-what-lies-in-the-kernel-is-measured.md \
	doc/decisions/0039-shared-endpoints.md \
	doc/decisions/0040-one-table-of-who-is-there.md \
	doc/decisions/0041-a-connection-outlives-its-daemon.md \
	doc/decisions/0042-rust-borrows-its-connection.md \
	doc/decisions/0043-who-waits-for-a-receiver-watches.md \
	doc/decisions/0044-one-to-many-is-a-log-with-positions.md \
	doc/decisions/0045-the-image-and-memory-that-can-t-be-mapped-again.md \
	doc/decisions/0046-the-hosts-policy-is-told-as-shares.md \
	doc/decisions/0047-domain-0-sees-what-guests-let-it.md \
	doc/decisions/0048-one-way-to-begin-and-one-shape-of-result.md \
	doc/decisions/0049-traces-name-messages-by-their-place.md \
	doc/decisions/0050-what-looks-like-two-and-stays.md \
	doc/decisions/0051-the-daemon-is-a-program-on-its-own-switch.md \
	doc/decisions/README.md
