//! Running the blocks of pages.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command as Program;
use std::time::Duration;

use tempfile::TempDir;

use super::blocks::{self, Beside, Block, Command, How};
use super::compare::{Known, compare, translate};
use super::session::{Session, is_whole};
use crate::stack::{program, root};
use crate::{Broker, Client, Postgres, Process, secs, until_true};

/// How long a command marked `until` may take to print what the page says.
const UNTIL: Duration = Duration::from_secs(20);

/// What the pages run beside; started when the first block needs it, and ended with this.
#[derive(Default)]
pub struct Documentation {
    dev: Option<Dev>,
    servers: Option<Servers>,
    /// Commands that were run.
    pub commands: usize,
}

struct Dev {
    process: Process,
    _folder: TempDir,
}

struct Servers {
    kafka: Broker,
    postgres: Postgres,
}

impl Documentation {
    /// Runs a page's blocks, and gives what is wrong with it, a text each. A block that fails ends its page: the
    /// blocks below may build on it.
    pub async fn run(&mut self, name: &str, text: &str) -> Vec<String> {
        let blocks = match blocks::read(text) {
            Ok(blocks) => blocks,
            Err(wrong) => return wrong.iter().map(|line| format!("{name}: {line}")).collect(),
        };
        let mut known = BTreeMap::new();
        let mut sessions: Vec<(Beside, Session)> = Vec::new();
        for block in &blocks {
            if let Err(problem) = self.block(block, &mut known, &mut sessions).await {
                return vec![format!("{name}: {problem}")];
            }
        }
        Vec::new()
    }

    async fn block(
        &mut self,
        block: &Block,
        known: &mut Known,
        sessions: &mut Vec<(Beside, Session)>,
    ) -> Result<(), String> {
        match &block.how {
            How::Containers => Ok(()),
            How::Elsewhere(files) => elsewhere(block, files),
            How::DevOutput => {
                let dev = self.dev(known).await;
                let printed = dev.process.printed();
                compare(&block.text, &printed, known)
                    .map_err(|e| format!("line {}: {e}", block.line))
            }
            How::Run { beside, until } => {
                let variables = match beside {
                    Beside::Nothing => Vec::new(),
                    Beside::Dev => {
                        self.dev(known).await;
                        Vec::new()
                    }
                    Beside::Servers => self.servers(known),
                };
                if !sessions.iter().any(|(of, _)| of == beside) {
                    let variables: Vec<_> = variables
                        .iter()
                        .map(|(name, value)| (*name, value.as_str()))
                        .collect();
                    sessions.push((*beside, Session::start(&variables)));
                }
                let session = sessions.iter_mut().find(|(of, _)| of == beside);
                let (_, session) = session.expect("it was made above");
                for command in block.commands(is_whole) {
                    self.commands += 1;
                    let text = self.real(&command.text);
                    tokio::task::block_in_place(|| one(&command, &text, *until, known, session))?;
                }
                Ok(())
            }
        }
    }

    /// The page's names of servers and programs as they are here.
    fn real(&self, text: &str) -> String {
        let mut text = text.replace("target/debug/tidegate", &program().display().to_string());
        if let Some(servers) = &self.servers {
            for (script, name) in [
                ("kafka", servers.kafka.name()),
                ("postgres", servers.postgres.name()),
            ] {
                for verb in ["up", "status"] {
                    let command = format!("scripts/{script} {verb}");
                    text = text.replace(&command, &format!("{command} --name {name}"));
                }
            }
        }
        text
    }

    async fn dev(&mut self, known: &mut Known) -> &Dev {
        if self.dev.is_none() {
            self.dev = Some(Dev::start().await);
        }
        let dev = self.dev.as_ref().expect("it was made above");
        let address = dev.process.url().trim_start_matches("http://");
        known.insert("127.0.0.1:8080".to_owned(), address.to_owned());
        dev
    }

    /// The settings that stand for the ports in the examples' configuration.
    fn servers(&mut self, known: &mut Known) -> Vec<(&'static str, String)> {
        let servers = self.servers.get_or_insert_with(|| Servers {
            kafka: Broker::up(1, true),
            postgres: Postgres::up(),
        });
        let (kafka, registry) = (&servers.kafka.bootstrap, &servers.kafka.registry);
        let host = |url: &str| {
            let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
            let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
            rest.split('/').next().unwrap_or(rest).to_owned()
        };
        known.insert("127.0.0.1:9092".to_owned(), kafka.clone());
        known.insert("127.0.0.1:8081".to_owned(), host(registry));
        known.insert("127.0.0.1:5433".to_owned(), host(&servers.postgres.url));
        vec![
            ("TIDEGATE__KAFKA__BROKERS", kafka.clone()),
            ("TIDEGATE__REGISTRY__URL", registry.clone()),
            ("TIDEGATE__STORE__URL", servers.postgres.url.clone()),
        ]
    }
}

impl Dev {
    /// Through `scripts/dev`, as the README starts it. The build that it begins with was made by whoever runs the
    /// tests, and doing it again alone would compile with other features: a `cargo` that leaves it out stands in.
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let cargo = folder.path().join("cargo");
        std::fs::write(&cargo, "#!/bin/sh\n[ \"$1\" = build ]\n").expect("a file");
        std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755))
            .expect("a program");
        let target = program()
            .ancestors()
            .nth(2)
            .expect("TARGET/debug/tidegate")
            .to_owned();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Program::new(root().join("scripts/dev"));
        command
            .args(["--listen", "127.0.0.1:0"])
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env("CARGO_TARGET_DIR", target);
        let process = Process::start("dev", folder.path(), &mut command);
        until_true("dev has said what to try", secs(60), || async {
            process.printed().contains("kcat -b") && Client::new(process.url()).is_ready().await
        })
        .await;
        Self {
            process,
            _folder: folder,
        }
    }
}

fn one(
    command: &Command,
    text: &str,
    until: bool,
    known: &mut Known,
    session: &mut Session,
) -> Result<(), String> {
    let text = translate(text, known, |_| free_address());
    let begun = std::time::Instant::now();
    loop {
        let (code, printed) = session.run(&text);
        let result = match &command.prints {
            _ if code != 0 => Err(format!("exit code {code}; printed was:\n{printed}")),
            Some(page) => compare(page, &printed, known),
            None => Ok(()),
        };
        match result {
            Ok(()) => return Ok(()),
            Err(_) if until && begun.elapsed() < UNTIL => {
                std::thread::sleep(Duration::from_millis(100))
            }
            Err(problem) => return Err(format!("line {}: {text}\n{problem}", command.line)),
        }
    }
}

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

fn elsewhere(block: &Block, files: &[String]) -> Result<(), String> {
    let read = |file: &String| std::fs::read_to_string(root().join(file)).unwrap_or_default();
    let texts: Vec<_> = files.iter().map(read).collect();
    for command in block.commands(is_whole) {
        let names = names(&command.text);
        let named = |text: &String| names.iter().any(|name| text.contains(name));
        if !texts.iter().any(named) {
            return Err(format!(
                "line {}: none of {names:?} stands in {files:?}",
                command.line
            ));
        }
    }
    Ok(())
}

/// How a command may stand in a test: as it is typed, or as the arguments that a test of ours gives a program.
fn names(command: &str) -> Vec<String> {
    let typed = command.split('#').next().unwrap_or_default();
    let typed = typed.trim().trim_end_matches('&').trim();
    let mut names = vec![typed.to_owned()];
    if let Some((_, rest)) = typed.split_once("tidegate ") {
        let is_name = |word: &&str| {
            let letters = word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
            letters && !word.starts_with('-')
        };
        let words = rest.split_whitespace().take_while(is_name).take(2);
        let words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
        names.extend((!words.is_empty()).then(|| words.join(", ")));
    }
    if let Some((_, rest)) = typed.split_once("scripts/") {
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
        let script = &rest[..end.unwrap_or(rest.len())];
        names.extend([
            format!("scripts/{script}"),
            format!("join(\"scripts\").join(\"{script}\")"),
        ]);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn commands_are_known_by_what_is_typed_and_by_their_arguments() {
        assert_eq!(
            names("tidegate jobs show 01a1 --config x.toml   # what happened"),
            [
                "tidegate jobs show 01a1 --config x.toml",
                "\"jobs\", \"show\""
            ]
        );
        assert_eq!(names("tidegate trace 01A1 &")[1], "\"trace\"");
        assert_eq!(names("eval \"$(scripts/jaeger up)\"")[1], "scripts/jaeger");
        assert_eq!(
            names("curl -s http://127.0.0.1/"),
            ["curl -s http://127.0.0.1/"]
        );
    }
}
