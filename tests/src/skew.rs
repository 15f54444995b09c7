//! Processes whose wall clock is wrong: a library of some lines, made by the C compiler that linked this test, stands in front
//! of libc's clocks.

use std::{path::Path, process::Command};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/skew.c");

/// The variables under which a program's wall clock is `seconds` ahead, or behind.
pub fn variables(dir: &Path, seconds: i64) -> Vec<(&'static str, String)> {
    let library = dir.join("skew.so");
    let made = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(SOURCE).status();
    assert!(made.expect("cc links Rust programs, so it is here").success(), "{SOURCE} does not compile");
    vec![("LD_PRELOAD", library.display().to_string()), ("SKEW_S", seconds.to_string())]
}
