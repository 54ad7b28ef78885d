//! Signals, in a process of their own: this test binary again.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // clippy knows only `#[test]` functions as tests

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use tidegate_runtime::Shutdown;

const CHILD: &str = "TIDEGATE_TEST_SIGNALS_CHILD";

/// The child: stops on the first signal as far as saying so, and never ends by itself.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let shutdown = Shutdown::new(Duration::from_secs(60));
        shutdown.listen_to_signals().unwrap();
        println!("\nlistening");
        shutdown.triggered().await;
        println!("\nstopping");
        std::future::pending::<()>().await;
    });
}

#[test]
fn the_first_signal_asks_and_the_second_ends() {
    for (first, second) in [("TERM", "INT"), ("INT", "TERM")] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        let kill = |signal: &str| {
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
        };
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "listening"));
        assert!(kill(first).success());
        assert!(lines.any(|line| line.unwrap() == "stopping"));
        assert!(kill(second).success());
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}
