//! What every role takes on its command line.

use std::path::PathBuf;

use clap::Args;

use crate::config::ConfigOptions;

/// Where settings come from, in rising order: the defaults, `--config`, `--set`, `TIDEGATE__SECTION__KEY`.
#[derive(Clone, Debug, Default, Args)]
pub struct SettingsArgs {
    /// A TOML file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// One setting, over the file; may be given more than once
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl SettingsArgs {
    /// The same for the loader.
    pub fn options(&self) -> ConfigOptions {
        ConfigOptions {
            file: self.config.clone(),
            set: self.set.clone(),
        }
    }
}

/// The arguments of a role that listens.
#[derive(Clone, Debug, Default, Args)]
pub struct RoleArgs {
    #[command(flatten)]
    pub settings: SettingsArgs,
    /// Address to listen on, short for `--set ROLE.listen=ADDR`; port 0 picks a free one
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
}

impl RoleArgs {
    /// The settings arguments with `--listen` as the assignment that it is short for; `key` is dotted, such as
    /// `worker.listen`.
    pub fn with_listen(mut self, key: &str) -> SettingsArgs {
        if let Some(listen) = self.listen {
            // Quoted, so that no address can be taken for another TOML value.
            self.settings.set.push(format!("{key}=\"{listen}\""));
        }
        self.settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_is_short_for_a_set_that_comes_after_the_others() {
        let args = RoleArgs {
            settings: SettingsArgs {
                config: None,
                set: vec!["gateway.listen=127.0.0.1:1".to_owned()],
            },
            listen: Some("127.0.0.1:0".to_owned()),
        };
        let settings = args.with_listen("gateway.listen");
        assert_eq!(settings.set[1], "gateway.listen=\"127.0.0.1:0\"");
    }
}
