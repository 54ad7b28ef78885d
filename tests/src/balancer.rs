//! The balancer that is shipped, `deploy/haproxy.cfg`, in front of gateways of a test.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::{Process, secs, stack::root, until_true};

/// A running HAProxy. It ends with this value.
pub struct Balancer {
    child: Child,
    folder: TempDir,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

/// The shipped configuration.
pub fn shipped() -> String {
    std::fs::read_to_string(root().join("deploy/haproxy.cfg")).expect("deploy/haproxy.cfg")
}

/// A `timeout` of the shipped configuration.
pub fn timeout(name: &str) -> Duration {
    let (text, prefix) = (shipped(), format!("timeout {name} "));
    let value = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(&prefix));
    let seconds = value.and_then(|value| value.trim().strip_suffix('s'));
    let seconds = seconds.and_then(|seconds| seconds.parse().ok());
    secs(seconds.unwrap_or_else(|| panic!("no `{prefix}…` in seconds")))
}

impl Balancer {
    /// In front of these two.
    pub async fn before(gateways: [&Process; 2]) -> Self {
        Self::before_urls(gateways.map(|gateway| gateway.url())).await
    }

    /// In front of whatever serves there. Only addresses are replaced.
    pub async fn before_urls(gateways: [&str; 2]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut text = shipped();
        let mut replace = |from: &str, to: &str| {
            assert_eq!(
                text.matches(from).count(),
                1,
                "`{from}` in deploy/haproxy.cfg"
            );
            text = text.replace(from, to);
        };
        replace("bind :8080", &format!("bind {address}"));
        for (name, gateway) in ["gateway-a", "gateway-b"].iter().zip(gateways) {
            let address = gateway.trim_start_matches("http://");
            replace(
                &format!("server {name} {name}:8080"),
                &format!("server {name} {address}"),
            );
        }
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, text).expect("a file");
        let log = File::create(folder.path().join("log")).expect("a file");
        drop(listener);
        let child = Command::new(program())
            .args(["-db", "-f"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn()
            .expect("haproxy: the package that scripts/test installs");
        let balancer = Self {
            child,
            folder,
            url: format!("http://{address}"),
        };
        until_true(
            &format!("the balancer listens\n{}", balancer.log()),
            secs(10),
            || async { TcpStream::connect(address).is_ok() },
        )
        .await;
        balancer
    }

    /// A line a request that it passed on, and what it noticed of the gateways.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// How many requests it passed on to a gateway, by the name in the configuration.
    pub fn passed_to(&self, gateway: &str) -> usize {
        let name = format!("gateways/{gateway} ");
        self.log()
            .lines()
            .filter(|line| line.contains(&name) && line.contains("HTTP/1.1\""))
            .count()
    }
}

/// Debian puts it where the path of a user without rights does not lead.
fn program() -> &'static str {
    match std::path::Path::new("/usr/sbin/haproxy").exists() {
        true => "/usr/sbin/haproxy",
        false => "haproxy",
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!(
                "--- balancer ---\n{}",
                lines[lines.len().saturating_sub(40)..].join("\n")
            );
        }
        // At once: SIGTERM waits for nobody.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}
