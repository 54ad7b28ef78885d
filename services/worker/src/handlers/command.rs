//! `command`: runs a program with the body on standard input; its standard output is the result.
//!
//! The program gets no shell and an environment of its own: `PATH`, what the type configures, and
//! `TIDEGATE_JOB_ID`, `_JOB_TYPE`, `_TENANT`, `_ATTEMPT`, `_REPEAT` (`true` or `false`), `_DEADLINE` (RFC 3339),
//! `_METHOD`, `_PATH`, `_QUERY` (as in a URL), `_CONTENT_TYPE`, and `TRACEPARENT`. It runs in a process group of its own; what is left of the
//! group when the program ends is killed with it, so nothing runs on after its job.
//!
//! Exit code 0 completes the job. When the attempt's time is up the group gets SIGTERM, and SIGKILL two seconds
//! later.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tidegate_contract::Outcome;
use tidegate_contract::time::rfc3339;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use super::limit::{Limited, Tail};
use crate::handler::{Handler, JobContext, JobFailure};

/// Most bytes that a program may answer with; the record limit is near that anyway.
const MAX_OUTPUT: usize = 1 << 20;
/// How much of the end of standard error goes into the failure.
const STDERR_TAIL: usize = 4 * 1024;
/// Between SIGTERM and SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// How long output may still come in after the program has ended.
const DRAIN: Duration = Duration::from_secs(1);

pub(super) struct Command {
    program: String,
    args: Vec<String>,
    env: BTreeMap<String, String>,
    content_type: String,
}

impl Command {
    pub(super) fn new(
        program: &[String],
        env: &BTreeMap<String, String>,
        content_type: &str,
    ) -> Result<Self, String> {
        let Some((program, args)) = program.split_first() else {
            return Err("program: name a program".to_owned());
        };
        Ok(Self {
            program: program.clone(),
            args: args.to_vec(),
            env: env.clone(),
            content_type: content_type.to_owned(),
        })
    }

    fn spawn(&self, cx: &JobContext) -> Result<Group, JobFailure> {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(&self.env)
            .envs(job_env(cx))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|e| {
            let program = &self.program;
            match e.kind() {
                ErrorKind::NotFound => JobFailure::permanent(
                    "command-not-found",
                    format!("program `{program}` does not exist on this worker"),
                ),
                ErrorKind::PermissionDenied => JobFailure::permanent(
                    "command-not-found",
                    format!("program `{program}` may not be run on this worker"),
                ),
                _ => JobFailure::retryable(
                    "command-start",
                    format!("program `{program}` did not start: {e}"),
                ),
            }
            .of_worker()
        })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Group {
            id: id.map(Pid::from_raw),
            input: child.stdin.take(),
            out: child.stdout.take(),
            err: child.stderr.take(),
            child: Some(child),
        })
    }
}

#[async_trait::async_trait]
impl Handler for Command {
    async fn run(&self, cx: JobContext) -> Result<Outcome, JobFailure> {
        let mut group = self.spawn(&cx)?;
        let id = group.id;
        let Group {
            child,
            input: stdin,
            out,
            err,
            ..
        } = &mut group;
        let (Some(child), Some(stdout), Some(stderr)) =
            (child.as_mut(), out.as_mut(), err.as_mut())
        else {
            return Err(lost());
        };
        let mut output = Limited::new(MAX_OUTPUT);
        let mut tail = Tail::new(STDERR_TAIL);
        let mut too_large = false;
        let status = {
            let pipes = async {
                let out = async {
                    let fits = read(stdout, |piece| output.push(piece).is_ok()).await;
                    too_large = !fits;
                    // Nobody reads on: end everything here rather than wait for a program that cannot write.
                    if fits { Ok(()) } else { Err(()) }
                };
                let err = async {
                    read(stderr, |piece| {
                        tail.push(piece);
                        true
                    })
                    .await;
                    Ok(())
                };
                let input = async {
                    feed(stdin, cx.body()).await;
                    Ok(())
                };
                tokio::try_join!(out, err, input).is_ok()
            };
            tokio::pin!(pipes);
            tokio::select! {
                status = child.wait() => {
                    signal(id, Signal::SIGKILL);
                    let _ = tokio::time::timeout(DRAIN, pipes).await;
                    Some(status)
                }
                within = &mut pipes => if within { Some(child.wait().await) } else { None },
            }
        };
        if too_large {
            return Err(JobFailure::permanent(
                "command-output-too-large",
                format!(
                    "program `{}` wrote more than {MAX_OUTPUT} bytes",
                    self.program
                ),
            ));
        }
        let status = status.ok_or_else(lost)?.map_err(|_| lost())?;
        group.ended();
        if status.success() {
            return Ok(Outcome {
                status: 200,
                content_type: Some(self.content_type.clone()),
                headers: Vec::new(),
                body: output.into_bytes(),
            });
        }
        Err(self.failed(status, &tail.text()))
    }
}

impl Command {
    fn failed(&self, status: ExitStatus, stderr: &str) -> JobFailure {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("ended with code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended unsuccessfully".to_owned(),
        };
        let last_line = stderr.lines().last().unwrap_or_default();
        let message = match last_line {
            "" => format!("program `{}` {how}", self.program),
            line => format!("program `{}` {how}: {line}", self.program),
        };
        JobFailure::retryable("command-exit", message).with_details(serde_json::json!({
            "exitCode": status.code(),
            "signal": status.signal(),
            "stderr": stderr,
        }))
    }
}

fn lost() -> JobFailure {
    JobFailure::retryable("command-lost", "the program's end could not be observed").of_worker()
}

/// Writes the body and closes the pipe. A program need not read what it does not want.
async fn feed(stdin: &mut Option<ChildStdin>, body: &[u8]) {
    if let Some(pipe) = stdin {
        let _ = pipe.write_all(body).await;
    }
    *stdin = None;
}

/// Reads to the end, or until `take` wants no more. Whether the end was reached.
async fn read(mut pipe: impl AsyncRead + Unpin, mut take: impl FnMut(&[u8]) -> bool) -> bool {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match pipe.read(&mut buffer).await {
            Ok(0) | Err(_) => return true,
            Ok(count) => {
                if !take(&buffer[..count]) {
                    return false;
                }
            }
        }
    }
}

fn job_env(cx: &JobContext) -> Vec<(&'static str, String)> {
    let job = cx.job();
    let request = &job.request;
    let mut env = vec![
        ("TIDEGATE_JOB_ID", job.job_id.to_string()),
        ("TIDEGATE_JOB_TYPE", job.job_type.to_string()),
        ("TIDEGATE_TENANT", job.tenant.to_string()),
        ("TIDEGATE_ATTEMPT", cx.attempt().to_string()),
        ("TIDEGATE_REPEAT", super::truth(cx.is_repeat()).to_owned()),
        ("TIDEGATE_DEADLINE", rfc3339(job.deadline)),
        ("TIDEGATE_METHOD", request.method.clone()),
        ("TIDEGATE_PATH", request.path.clone()),
        ("TIDEGATE_QUERY", super::form_encoded(&request.query)),
        (
            "TIDEGATE_CONTENT_TYPE",
            job.content_type.clone().unwrap_or_default(),
        ),
    ];
    let parent = cx.trace_headers().find(|(name, _)| *name == "traceparent");
    if let Some((_, value)) = parent {
        env.push(("TRACEPARENT", value.to_owned()));
    }
    env
}

fn signal(group: Option<Pid>, signal: Signal) {
    // No such group: it has ended by itself, which is what was wanted.
    if let Some(group) = group {
        let _ = killpg(group, signal);
    }
}

/// A running process group. Dropped before [`Group::ended`] (the attempt was cut off, or the handler gave up) it is
/// told to end, and made to a little later.
struct Group {
    id: Option<Pid>,
    child: Option<Child>,
    /// Open until the body is written. Of a program that is cut off before that, it stays open until the program is
    /// gone: an end of the input would tell it that it has the whole body.
    input: Option<ChildStdin>,
    /// Read to the end: a program that says on its way out that it goes would be killed by a pipe that nobody reads.
    out: Option<ChildStdout>,
    err: Option<ChildStderr>,
}

impl Group {
    fn ended(mut self) {
        self.child = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        signal(self.id, Signal::SIGTERM);
        let killer = Killer(self.id);
        let (input, out, err) = (self.input.take(), self.out.take(), self.err.take());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let ended = async {
                    tokio::select! {
                        _ = child.wait() => {}
                        () = swallow(out, err) => {}
                    }
                };
                let _ = tokio::time::timeout(TERM_GRACE, ended).await;
                drop(killer);
                let _ = child.wait().await;
                drop(input);
            });
        }
    }
}

/// Reads what nobody wants any more. Never ends.
async fn swallow(out: Option<ChildStdout>, err: Option<ChildStderr>) {
    async fn one(pipe: Option<impl AsyncRead + Unpin>) {
        if let Some(pipe) = pipe {
            read(pipe, |_| true).await;
        }
    }
    tokio::join!(one(out), one(err));
    std::future::pending().await
}

/// Kills the group when dropped: after the grace, or at once where the runtime ends before it.
struct Killer(Option<Pid>);

impl Drop for Killer {
    fn drop(&mut self) {
        signal(self.0, Signal::SIGKILL);
    }
}
