//! One role of Tidegate as a process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running program. It is killed when this is dropped.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
    /// Where it listens, from the line it prints.
    url: String,
    printed: Arc<Mutex<String>>,
}

impl Process {
    /// Starts a role and waits for the line that says where it listens. Its log goes to a file in `dir`.
    pub fn start(name: &str, dir: &Path, command: &mut Command) -> Self {
        Self::start_until(name, dir, command, "listening on ")
    }

    /// The same for a program that says something else once it works; what follows those words is its `url`.
    pub fn start_until(name: &str, dir: &Path, command: &mut Command, words: &'static str) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).expect("log file");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(file))
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let (told, line) = mpsc::channel();
        let printed = Arc::<Mutex<String>>::default();
        let print = Arc::clone(&printed);
        // The pipe is read to its end, so that the program never blocks on it.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut print = print.lock().unwrap_or_else(PoisonError::into_inner);
                print.push_str(&line);
                print.push('\n');
                if let Some((_, url)) = line.split_once(words) {
                    let _ = told.send(url.trim().to_owned());
                }
            }
        });
        let mut process = Self {
            child,
            name: name.to_owned(),
            log,
            url: String::new(),
            printed,
        };
        match line.recv_timeout(Duration::from_secs(20)) {
            Ok(url) => process.url = url,
            Err(_) => panic!("{name} does not say `{words}`:\n{}", process.log_tail()),
        }
        process
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has printed.
    pub fn printed(&self) -> String {
        self.printed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The last lines it has logged.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Resident memory in KiB.
    pub fn memory_kib(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory that it has ever had, in KiB.
    pub fn peak_memory_kib(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(what));
        line.and_then(|line| line.split_whitespace().nth(1))
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id() as i32), signal)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }

    /// SIGTERM, and waits for the end; panics if that takes longer than `limit`.
    pub async fn stop(mut self, limit: Duration) -> ExitStatus {
        self.terminate();
        self.exit(limit).await
    }

    /// Waits for the end; panics if that takes longer than `limit`.
    pub async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(
                begun.elapsed() < limit,
                "{} still runs after {limit:?}:\n{}",
                self.name,
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log_tail());
        }
    }
}
