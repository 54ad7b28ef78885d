//! `tidegate types`: the job types, looked at before any role reads them; and orders about those in force.

use std::path::PathBuf;

use serde_json::json;
use tidegate_contract::{HandlerSpec, JobType, JobTypes, Mode};
use tidegate_runtime::types::digest;

use super::{client, listing};
use crate::cli::{SettingsArgs, TypeArgs, TypesCommand};
use crate::exit::Failure;
use crate::{output, settings};

/// Runs one of the commands.
pub async fn run(command: TypesCommand) -> Result<(), Failure> {
    match command {
        TypesCommand::List(args) => listing::types(args).await,
        TypesCommand::Pause(args) => order(args, "pause").await,
        TypesCommand::Resume(args) => order(args, "resume").await,
        TypesCommand::Check {
            file,
            settings,
            json,
        } => check(file, settings, json),
    }
}

async fn order(args: TypeArgs, what: &str) -> Result<(), Failure> {
    // What is no name is no part of a path either.
    let name: JobType = args
        .name
        .parse()
        .map_err(|error| Failure::usage(format!("{}: {error}", args.name)))?;
    let path = format!("/v1/job-types/{name}/{what}");
    let body = client::order(&args.gateway, &path, &json!({})).await?;
    output::line(match body["until"].as_str() {
        _ if args.json => body.to_string(),
        Some(until) => format!("{name} is paused until {until}: jobs wait, those that run go on"),
        None => format!("{name} is resumed: what waits begins within about a minute"),
    });
    Ok(())
}

fn check(file: Option<PathBuf>, mut settings: SettingsArgs, as_json: bool) -> Result<(), Failure> {
    if let Some(file) = file {
        let file = file.to_str().ok_or_else(|| {
            Failure::usage(format!("{}: its name is not UTF-8 text", file.display()))
        })?;
        // JSON's text in quotes is also TOML's.
        settings.set.push(format!("types_file={}", json!(file)));
    }
    let (loaded, file) = settings::load_followed(&settings)?;
    let types = &loaded.value.types;
    let file = file.map(|file| file.path.display().to_string());
    output::line(if as_json {
        let names: Vec<_> = types.keys().map(|name| name.as_str()).collect();
        let digest = digest(types);
        format!(
            "{:#}",
            json!({ "digest": digest, "file": file, "types": names })
        )
    } else {
        said(types, file.as_deref())
    });
    Ok(())
}

fn said(types: &JobTypes, file: Option<&str>) -> String {
    let source = file.unwrap_or("configuration");
    let count = match types.len() {
        1 => "1 job type".to_owned(),
        n => format!("{n} job types"),
    };
    let head = format!("{source}: good; {count}, digest {}", digest(types));
    let rows: Vec<_> = types
        .iter()
        .map(|(name, spec)| {
            let mode = match spec.mode {
                Mode::Wait => format!("wait {}", humantime::format_duration(spec.wait)),
                Mode::Async => "async".to_owned(),
            };
            let handler = match &spec.handler {
                HandlerSpec::Echo => "echo".to_owned(),
                HandlerSpec::Http { url, .. } => {
                    format!("http {}", tidegate_runtime::config::mask_passwords(url))
                }
                // Its arguments may be long, or secret.
                HandlerSpec::Command { program, .. } => {
                    format!("command {}", program.first().map_or("", String::as_str))
                }
                HandlerSpec::Custom { name } => format!("custom {name}"),
            };
            let timeout = humantime::format_duration(spec.attempt_timeout).to_string();
            vec![
                name.to_string(),
                spec.pool.to_string(),
                spec.tier.to_string(),
                mode,
                timeout,
                handler,
            ]
        })
        .collect();
    if rows.is_empty() {
        return head;
    }
    let columns = ["type", "pool", "tier", "mode", "attempt", "handler"];
    format!("{head}\n{}", output::table(&columns, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_contract::JobTypeSpec;

    #[test]
    fn types_are_shown_without_what_may_be_secret() {
        let command = HandlerSpec::Command {
            program: vec!["sh".to_owned(), "-c".to_owned(), "TOKEN=x run".to_owned()],
            env: [("KEY".to_owned(), "hidden".to_owned())].into(),
            content_type: String::new(),
        };
        let types = JobTypes::from([("a".parse().unwrap(), JobTypeSpec::new(command))]);
        let said = said(&types, Some("t.toml"));
        let digest = digest(&types);
        assert_eq!(
            said,
            format!(
                "t.toml: good; 1 job type, digest {digest}\n\
                 type  pool     tier    mode      attempt  handler\n\
                 a     default  normal  wait 10s  1m       command sh"
            )
        );
    }
}
