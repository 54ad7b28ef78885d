//! How a command ends: a code for scripts and one line for people.

use std::fmt;
use std::process::ExitCode;

/// Ended as asked.
pub const DONE: u8 = 0;
/// It could not be done.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong (clap uses the same code).
pub const USAGE: u8 = 2;
/// `submit`: accepted, no outcome yet.
pub const PENDING: u8 = 3;

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// What was asked for did not work: code 1.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self {
            code: FAILED,
            message: message.to_string(),
        }
    }

    /// What was asked for makes no sense: code 2.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self {
            code: USAGE,
            message: message.to_string(),
        }
    }

    /// Prints the message and gives the code.
    pub fn report(&self) -> ExitCode {
        if !self.message.is_empty() {
            crate::output::complain(&self.message);
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error with its causes in one line: what was tried, and why it failed.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::failed(format!("{error:#}"))
    }
}
