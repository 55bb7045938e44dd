//! Has the linker pack what the loader relocates, where the system's loader can read that: glibc can since 2.36. The
//! program then maps about three megabytes less. And has it lay functions in the order that a file says, where there is one:
//! `handout.sh` makes it.

use std::process::Command;

const SINCE: [u32; 2] = [2, 36];
const ORDER: &str = "DOGE_FUNCTION_ORDER";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    let is_for_this_system = std::env::var_os("HOST") == std::env::var_os("TARGET");
    let is_glibc = is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu");
    if is_for_this_system && is_glibc && glibc().is_some_and(|version| version >= SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
    println!("cargo::rerun-if-env-changed={ORDER}");
    if let Ok(order) = std::env::var(ORDER) {
        println!("cargo::rerun-if-changed={order}");
        for argument in [&format!("--symbol-ordering-file={order}"), "--no-warn-symbol-ordering"] {
            println!("cargo::rustc-link-arg-bins=-Xlinker");
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}

/// The version of the system's C library.
fn glibc() -> Option<[u32; 2]> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    let minor = minor.split('.').next()?;
    Some([major.parse().ok()?, minor.parse().ok()?])
}
