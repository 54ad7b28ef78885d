//! The command line.

use std::time::Duration;

/// What a storm is asked to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// How long there is trouble.
    pub minutes: f64,
    pub seed: u64,
    pub brokers: u32,
    /// Jobs a second.
    pub rate: u64,
    /// How long the last jobs have to end, when all is calm.
    pub settle: Duration,
    /// The defect that the program under test was built with.
    pub sabotage: Option<String>,
    /// Only says what would happen.
    pub plan_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            minutes: 2.5,
            seed: 1,
            brokers: 1,
            rate: 30,
            settle: Duration::from_secs(90),
            sabotage: None,
            plan_only: false,
        }
    }
}

/// The defects that can be built in.
pub const SABOTAGES: [&str; 4] = ["skip-cas", "early-commit", "drop-reply", "ignore-terminal"];

impl Options {
    /// Milliseconds.
    pub fn length(&self) -> u64 {
        (self.minutes * 60_000.0) as u64
    }

    /// Reads a command line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let (mut options, mut arguments) = (Self::default(), arguments.into_iter());
        while let Some(name) = arguments.next() {
            if name == "--plan" {
                options.plan_only = true;
                continue;
            }
            let mut value = || {
                arguments
                    .next()
                    .ok_or_else(|| format!("{name} wants a value"))
            };
            match name.as_str() {
                "--minutes" => options.minutes = within(&name, &value()?, 0.5, 10_000.0)?,
                "--seed" => options.seed = number(&name, &value()?)?,
                "--rate" => options.rate = within(&name, &value()?, 1, 500)?,
                "--settle" => {
                    options.settle = Duration::from_secs(within(&name, &value()?, 1, 3_600)?)
                }
                "--brokers" => match value()?.as_str() {
                    "1" => options.brokers = 1,
                    "3" => options.brokers = 3,
                    other => return Err(format!("--brokers '{other}' is not allowed: 1 or 3")),
                },
                "--sabotage" => {
                    let name = value()?;
                    if !SABOTAGES.contains(&name.as_str()) {
                        return Err(format!(
                            "--sabotage '{name}' is not known: {}",
                            SABOTAGES.join(", ")
                        ));
                    }
                    options.sabotage = Some(name);
                }
                _ => return Err(format!("unknown option '{name}': see scripts/storm --help")),
            }
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse()
        .map_err(|_| format!("{name} '{text}' is not a number"))
}

fn within<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
    name: &str,
    text: &str,
    least: T,
    most: T,
) -> Result<T, String> {
    let found: T = number(name, text)?;
    match least <= found && found <= most {
        true => Ok(found),
        false => Err(format!("{name} '{text}' is not within {least} and {most}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_mistakes_named() {
        let options = parse("--minutes 0.5 --seed 9 --brokers 3 --sabotage skip-cas").unwrap();
        assert_eq!(
            (options.length(), options.seed, options.brokers),
            (30_000, 9, 3)
        );
        assert_eq!(options.sabotage.as_deref(), Some("skip-cas"));
        for (line, says) in [
            ("--minutes", "wants a value"),
            ("--minutes NaN", "not within"),
            ("--minutes 0", "not within"),
            ("--brokers 2", "1 or 3"),
            ("--seed x", "not a number"),
            ("--sabotage x", "skip-cas"),
            ("--what", "unknown option"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
