//! One shell, into which the commands of a page are typed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::stack::{program, root};

/// Nothing in the documentation takes longer, and what is started in the background has as long to end.
const LIMIT: Duration = Duration::from_secs(90);
const END: Duration = Duration::from_secs(30);

/// Printed after a command, with its exit code.
const MARK: &str = "@@ended@@";

/// A shell in a folder that looks like the checkout and is not: what commands leave there goes with it.
pub struct Session {
    shell: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    folder: TempDir,
    typed: usize,
}

impl Session {
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (home, bin) = (folder.path().join("home"), folder.path().join("bin"));
        let checkout = folder.path().join("checkout");
        for new in [&home, &bin, &checkout] {
            std::fs::create_dir(new).expect("a folder");
        }
        mirror(&root(), &checkout);
        std::os::unix::fs::symlink(program(), bin.join("tidegate")).expect("a link");
        // Where no terminal is, curl would tell of its progress.
        std::fs::write(home.join(".curlrc"), "no-progress-meter\nnoproxy = \"*\"\n")
            .expect("a file");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("bash");
        command
            .args(["--norc", "--noprofile"])
            .current_dir(&checkout)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("CURL_HOME", &home)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // What it starts in the background can be ended with it.
            .process_group(0);
        let mut shell = command.spawn().expect("bash");
        let mut input = shell.stdin.take().expect("piped");
        let output = shell.stdout.take().expect("piped");
        writeln!(input, "exec 2>&1; shopt -s expand_aliases").expect("bash reads");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        Self {
            shell,
            input,
            lines,
            folder,
            typed: 0,
        }
    }

    /// Types a command and waits for its end: its exit code and what it printed.
    pub fn run(&mut self, command: &str) -> (i32, String) {
        // From a file, so that a command that reads its input does not read the next command.
        self.typed += 1;
        let file = self.folder.path().join(format!("command-{}", self.typed));
        std::fs::write(&file, in_background(command, self.folder.path())).expect("a file");
        let line = format!(
            ". {} </dev/null; printf '\\n{MARK}%s\\n' $?",
            file.display()
        );
        writeln!(self.input, "{line}").expect("bash reads");
        let (begun, mut printed) = (Instant::now(), Vec::new());
        loop {
            let left = LIMIT.saturating_sub(begun.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(line) => match line.strip_prefix(MARK) {
                    Some(code) => return (code.parse().unwrap_or(-1), printed.join("\n")),
                    None => printed.push(line),
                },
                Err(RecvTimeoutError::Timeout) => {
                    panic!("not within {LIMIT:?}: {command}\n{}", printed.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended the shell: {command}\n{}", printed.join("\n"))
                }
            }
        }
    }
}

/// What runs in the background prints into a file, not between the lines of what comes after it.
fn in_background(command: &str, folder: &Path) -> String {
    match command.trim_end().strip_suffix('&') {
        Some(command) => format!("{command} >>{}/background.log 2>&1 &\n", folder.display()),
        None => format!("{command}\n"),
    }
}

/// Whether bash takes the text as whole commands.
pub fn is_whole(text: &str) -> bool {
    let mut check = Command::new("bash");
    check
        .args(["-n", "-c", text])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    check.status().is_ok_and(|status| status.success())
}

fn mirror(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("the checkout") {
        let entry = entry.expect("an entry");
        let name = entry.file_name();
        if !matches!(name.to_str(), Some(".git" | "target")) {
            std::os::unix::fs::symlink(entry.path(), to.join(name)).expect("a link");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = writeln!(self.input, "kill $(jobs -p) 2>/dev/null; wait; exit");
        let begun = Instant::now();
        while begun.elapsed() < END && matches!(self.shell.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = killpg(Pid::from_raw(self.shell.id() as i32), Signal::SIGKILL);
        let _ = self.shell.wait();
        if std::thread::panicking() {
            let log = self.folder.path().join("background.log");
            eprintln!("{}", std::fs::read_to_string(log).unwrap_or_default());
        }
    }
}
