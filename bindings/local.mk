# SPDX-License-Identifier: LGPL-2.1-or-later
# The Rust crate, installed as sources where Debian's and Fedora's cargo look for crates: no Rust is needed for that. It is built by
# its users, and by tests/integration/test_rust.py.
rustcratedir = $(datadir)/cargo/registry/xenmsg-$(PACKAGE_VERSION)
rust_crate_files = \
	bindings/rust/Cargo.toml \
	bindings/rust/build.rs \
	bindings/rust/examples/agent.rs \
	bindings/rust/examples/echo.rs \
	bindings/rust/examples/executor.rs \
	bindings/rust/examples/request_reply.rs \
	bindings/rust/examples/topic.rs \
	bindings/rust/src/conn_stream.rs \
	bindings/rust/src/connection.rs \
	bindings/rust/src/error.rs \
	bindings/rust/src/ffi.rs \
	bindings/rust/src/lib.rs \
	bindings/rust/src/message.rs \
	bindings/rust/src/options.rs \
	bindings/rust/src/pending.rs \
	bindings/rust/src/serve.rs \
	bindings/rust/src/stream.rs \
	bindings/rust/src/topic.rs \
	bindings/rust/src/watch.rs
EXTRA_DIST += $(rust_crate_files) bindings/rust/Cargo.lock bindings/rust/tests/domain.rs

install-data-hook: install-rust-crate
uninstall-hook: uninstall-rust-crate
.PHONY: install-rust-crate uninstall-rust-crate

# A folder of a registry has checksums of its files, or says that it has none.
install-rust-crate:
	for file in $(rust_crate_files); do \
		to="$(DESTDIR)$(rustcratedir)/$${file#bindings/rust/}" && $(MKDIR_P) "$${to%/*}" && \
		$(INSTALL_DATA) "$(srcdir)/$$file" "$$to" || exit 1; \
	done
	echo '{"files":{},"package":null}' > "$(DESTDIR)$(rustcratedir)/.cargo-checksum.json"

uninstall-rust-crate:
	rm -rf "$(DESTDIR)$(rustcratedir)"

clean-local: clean-rust
.PHONY: clean-rust
clean-rust:
	rm -rf rust
