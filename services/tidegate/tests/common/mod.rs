//! The program as its users meet it: started as a process, watched through what it prints.
#![allow(dead_code, reason = "each test program uses some of it")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The program with no settings from the environment of whoever runs the tests.
pub fn tidegate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    // Where the sample job keeps its orders.
    command.env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    command.args(arguments);
    command
}

/// Runs it to its end; a command that hangs is killed and fails the test.
pub fn run(arguments: &[&str]) -> Output {
    finish(&mut tidegate(arguments), Duration::from_secs(30))
}

/// The same for a prepared command.
pub fn finish(command: &mut Command, limit: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = collect(child.stdout.take().unwrap());
    let stderr = collect(child.stderr.take().unwrap());
    let status = wait(&mut child, limit);
    Output {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn collect(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn wait(child: &mut Child, limit: Duration) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            panic!("still running after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A role that runs until it is told to stop. Killed when dropped; what it logged is shown if the test failed.
pub struct Role {
    child: Child,
    log: tempfile::NamedTempFile,
    lines: Receiver<String>,
    pub printed: Vec<String>,
    /// From the line in which it says where it listens.
    pub url: String,
}

impl Role {
    /// Starts it and waits for the line with its URL.
    pub fn start(command: &mut Command) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let lines = follow(child.stdout.take().unwrap());
        let mut role = Self {
            child,
            log,
            lines,
            printed: Vec::new(),
            url: String::new(),
        };
        let line = role.line("listening on ", Duration::from_secs(30));
        role.url = line.rsplit(' ').next().unwrap().to_owned();
        role
    }

    /// Waits until it prints a line with that text.
    pub fn line(&mut self, wanted: &str, limit: Duration) -> String {
        if let Some(line) = self.printed.iter().find(|line| line.contains(wanted)) {
            return line.clone();
        }
        let begun = Instant::now();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with `{wanted}` in {:#?}", self.printed);
            };
            self.printed.push(line.clone());
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// SIGTERM, then its status; the time it took.
    pub fn terminate(&mut self, limit: Duration) -> (ExitStatus, Duration) {
        let begun = Instant::now();
        self.signal(Signal::SIGTERM);
        let status = wait(&mut self.child, limit);
        (status, begun.elapsed())
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.log.path()).unwrap_or_default();
            println!("{}\n--- log ---\n{log}", self.printed.join("\n"));
        }
    }
}

fn follow(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        // Read on when nobody listens any more: a full pipe would stop the program.
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}

/// Asks again and again until there is an answer.
pub async fn until<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until `/readyz` says yes.
pub async fn ready(url: &str) {
    let readyz = format!("{url}/readyz");
    until("ready", Duration::from_secs(60), async || {
        let answer = reqwest::get(&readyz).await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
}

/// A running `dev`, to put commands to.
pub struct Dev {
    pub role: Role,
    pub http: reqwest::Client,
}

impl Dev {
    /// With these settings, once it is ready.
    pub async fn start(settings: &[&str]) -> Self {
        let mut arguments = vec!["dev", "--listen", "127.0.0.1:0"];
        arguments.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
        let role = Role::start(&mut tidegate(&arguments));
        ready(&role.url).await;
        let http = reqwest::Client::new();
        Self { role, http }
    }

    /// Runs a command against it to its end.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let all = [arguments, &["--url", &self.role.url]].concat();
        let all: Vec<String> = all.into_iter().map(str::to_owned).collect();
        let running = tokio::task::spawn_blocking(move || {
            let all: Vec<_> = all.iter().map(String::as_str).collect();
            run(&all)
        });
        running.await.unwrap()
    }
}
