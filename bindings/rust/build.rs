// SPDX-License-Identifier: LGPL-2.1-or-later
//! Finds libxenmsg: in $XENMSG_LIB_DIR, or else where pkg-config says, or else where the linker looks.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=XENMSG_LIB_DIR");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    if let Ok(directory) = env::var("XENMSG_LIB_DIR") {
        println!("cargo:rustc-link-search=native={directory}");
    } else {
        let pkg_config = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".into());
        if let Ok(answer) = Command::new(pkg_config).args(["--libs-only-L", "xenmsg"]).output() {
            for word in String::from_utf8_lossy(&answer.stdout).split_whitespace() {
                if let Some(directory) = word.strip_prefix("-L") {
                    println!("cargo:rustc-link-search=native={directory}");
                }
            }
        }
    }
    println!("cargo:rustc-link-lib=dylib=xenmsg");
}
