//! Names that stand for another address at each lookup, as somebody else's name server may have it.

use std::process::Command;

use crate::Stack;
use crate::stack::root;

/// From now on, in each command of this stack, the n-th lookup of a name under `.test` finds the n-th of these addresses, and
/// the last one from then on.
pub fn find(stack: &mut Stack, addresses: &[&str]) {
    let library = stack.dir.path().join("lookups.so");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]);
    compiler.arg(&library);
    compiler
        .arg(root().join("tests/lookups/getaddrinfo.c"))
        .arg("-ldl");
    let output = compiler.output().expect("a C compiler, as the build needs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    for (name, value) in [
        ("LD_PRELOAD", library.to_str().expect("a path")),
        ("TIDEGATE_TEST_ADDRESSES", &addresses.join(" ")),
    ] {
        stack.environment.push((name.to_owned(), value.to_owned()));
    }
}
