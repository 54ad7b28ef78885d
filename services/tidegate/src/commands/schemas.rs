//! `tidegate schemas`: the compiled-in Avro schemas and the registry.

use std::time::Duration;

use tidegate_kafka::{
    Compatibility, RegistryError, RegistrySettings, check_schemas, register_schemas,
};

use crate::cli::SchemasCommand;
use crate::exit::Failure;
use crate::{output, settings};

/// An operator is waiting: a registry that has not answered everything by then is away.
const LIMIT: Duration = Duration::from_secs(9);

/// Runs one of the commands.
pub async fn run(command: SchemasCommand) -> Result<(), Failure> {
    match command {
        SchemasCommand::Register(args) => {
            let registry = settings::load(&args)?.value.registry;
            for (subject, id) in limited(&registry, register_schemas(&registry)).await? {
                output::line(format!("{subject}: registered as {id}"));
            }
            Ok(())
        }
        SchemasCommand::Check(args) => {
            let registry = settings::load(&args)?.value.registry;
            let found = limited(&registry, check_schemas(&registry)).await?;
            for one in &found {
                output::line(verdict(one));
            }
            match found.iter().filter(|one| !one.compatible).count() {
                0 => Ok(()),
                1 => Err(Failure::failed("1 schema is not compatible")),
                n => Err(Failure::failed(format!("{n} schemas are not compatible"))),
            }
        }
    }
}

fn verdict(one: &Compatibility) -> String {
    let subject = &one.subject;
    match (one.id, one.compatible) {
        (Some(id), _) => format!("{subject}: registered as {id}"),
        (None, true) => {
            format!("{subject}: compatible, not registered: run `tidegate schemas register`")
        }
        (None, false) => {
            // Registries explain at length, over several lines; one line a schema is for scripts.
            let reasons = one.messages.join("; ");
            let reasons: Vec<_> = reasons.split_whitespace().collect();
            format!("{subject}: not compatible: {}", reasons.join(" "))
        }
    }
}

async fn limited<T>(
    registry: &RegistrySettings,
    call: impl Future<Output = Result<T, RegistryError>>,
) -> Result<T, Failure> {
    let url = &registry.url;
    match tokio::time::timeout(LIMIT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Failure::failed(format!("{url}: {error}"))),
        Err(_) => Err(Failure::failed(format!(
            "{url}: no answer within {} s",
            LIMIT.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_one_line() {
        let mut one = Compatibility {
            subject: "tidegate.job".to_owned(),
            id: None,
            compatible: false,
            messages: vec!["field\n  gone".to_owned(), "other".to_owned()],
        };
        assert_eq!(
            verdict(&one),
            "tidegate.job: not compatible: field gone; other"
        );
        one.id = Some(3);
        assert_eq!(verdict(&one), "tidegate.job: registered as 3");
    }
}
