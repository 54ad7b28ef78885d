//! The schema registry through its Confluent-compatible interface.

use std::time::Duration;

use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, perform_sr_call,
};
use schema_registry_converter::error::SRCError;
use schema_registry_converter::schema_registry_common::{RawError, SchemaType, SrCall};
use serde_json::{Value, json};
use tidegate_contract::schema::{self, MessageSchema};

use crate::settings::RegistrySettings;

/// What every subject of ours must keep: any version reads what any other wrote.
pub const LEVEL: &str = "FULL_TRANSITIVE";

/// Error codes of the Confluent interface.
const SUBJECT_NOT_FOUND: u32 = 40401;
const VERSION_NOT_FOUND: u32 = 40402;
const SCHEMA_NOT_FOUND: u32 = 40403;

/// A call to the registry did not work.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RegistryError {
    /// Not reached in time, or not able to answer now: try again.
    #[error("schema registry is not available: {0}")]
    Unavailable(String),
    #[error("schema {0} is not registered: run `tidegate schemas register`")]
    NotRegistered(String),
    /// The registry says that records of one version could not be read with the other.
    #[error(
        "schema {subject} is not compatible with what is registered: {reason}: give new fields defaults and keep the old ones"
    )]
    Incompatible { subject: String, reason: String },
    /// The registry answered, and the answer is no.
    #[error("schema registry refused: {0}")]
    Refused(String),
    /// The settings cannot be used.
    #[error("schema registry settings: {0}")]
    Settings(String),
}

/// How a compiled-in schema stands to the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compatibility {
    pub subject: String,
    /// Its id, if this very schema is registered.
    pub id: Option<u32>,
    /// Whether it may be registered.
    pub compatible: bool,
    /// Why not, in the registry's words.
    pub messages: Vec<String>,
}

/// Registers every compiled-in schema that is not there yet, under FULL_TRANSITIVE compatibility. Subjects and ids.
pub async fn register_schemas(
    settings: &RegistrySettings,
) -> Result<Vec<(String, u32)>, RegistryError> {
    let client = RegistryClient::new(settings)?;
    let mut registered = Vec::new();
    for message in schema::ALL {
        registered.push((message.subject.to_owned(), client.register(message).await?));
    }
    Ok(registered)
}

/// Asks for every compiled-in schema whether it is registered, or could be.
pub async fn check_schemas(
    settings: &RegistrySettings,
) -> Result<Vec<Compatibility>, RegistryError> {
    let client = RegistryClient::new(settings)?;
    let mut found = Vec::new();
    for message in schema::ALL {
        found.push(client.check(message).await?);
    }
    Ok(found)
}

/// The compatibility level of every subject of ours; `None` where the registry's own one holds. Those that let go
/// what ours must keep are for somebody to judge.
pub async fn compatibility_levels(
    settings: &RegistrySettings,
) -> Result<Vec<(String, Option<String>)>, RegistryError> {
    let client = RegistryClient::new(settings)?;
    let mut found = Vec::new();
    for message in schema::ALL {
        found.push((
            message.subject.to_owned(),
            client.level(message.subject).await?,
        ));
    }
    Ok(found)
}

/// Answers to a look-up by id.
pub(crate) enum ById {
    Avro(String),
    /// The registry has something there that we cannot use.
    Unusable(String),
    /// The registry answers that there is no such id.
    Unknown,
}

#[derive(Clone)]
pub(crate) struct RegistryClient {
    converter: SrSettings,
    /// For what the converter does not do: compatibility.
    http: reqwest::Client,
    settings: RegistrySettings,
}

impl RegistryClient {
    pub(crate) fn new(settings: &RegistrySettings) -> Result<Self, RegistryError> {
        let url = settings.url.trim_end_matches('/').to_owned();
        let parsed = reqwest::Url::parse(&url)
            .map_err(|error| RegistryError::Settings(format!("registry.url: {error}")))?;
        let timeout = settings.timeout.max(Duration::from_millis(10));
        let mut builder = SrSettings::new_builder(url.clone());
        builder.set_timeout(timeout);
        let mut http = reqwest::Client::builder().timeout(timeout);
        if matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")) {
            builder.no_proxy();
            http = http.no_proxy();
        }
        if let Some(name) = &settings.username {
            let password = settings.password.as_ref().map(|secret| secret.expose());
            builder.set_basic_authorization(name, password);
        }
        let converter = builder
            .build()
            .map_err(|error| RegistryError::Settings(error.to_string()))?;
        let http = http
            .build()
            .map_err(|error| RegistryError::Settings(error.to_string()))?;
        Ok(Self {
            converter,
            http,
            settings: RegistrySettings {
                url,
                ..settings.clone()
            },
        })
    }

    /// The id of this very schema; nothing is registered.
    pub(crate) async fn look_up(&self, message: MessageSchema) -> Result<u32, RegistryError> {
        let body = supplied(message);
        let call = SrCall::PostForVersion(message.subject, &body);
        self.id_of(message, perform_sr_call(&self.converter, call).await)
    }

    /// Sets the compatibility level of the subject, then registers the schema if it is not there.
    pub(crate) async fn register(&self, message: MessageSchema) -> Result<u32, RegistryError> {
        // Some registries know no settings of a subject that has no version yet.
        let level_set = self.set_level(message.subject).await?;
        let body = supplied(message);
        let call = SrCall::PostNew(message.subject, &body);
        let id = self.id_of(message, perform_sr_call(&self.converter, call).await)?;
        if !level_set {
            self.set_level(message.subject).await?;
        }
        Ok(id)
    }

    fn id_of(
        &self,
        message: MessageSchema,
        answer: Result<
            schema_registry_converter::schema_registry_common::RawRegisteredSchema,
            SRCError,
        >,
    ) -> Result<u32, RegistryError> {
        let subject = message.subject.to_owned();
        let error = match answer {
            Ok(found) => {
                return found
                    .id
                    .ok_or_else(|| RegistryError::Refused(format!("no id for {subject}")));
            }
            Err(error) => error,
        };
        let Some(raw) = raw_error(&error) else {
            return Err(RegistryError::Unavailable(reason(&error)));
        };
        Err(match raw.error_code {
            SUBJECT_NOT_FOUND | VERSION_NOT_FOUND | SCHEMA_NOT_FOUND => {
                RegistryError::NotRegistered(subject)
            }
            409 | 40901 => RegistryError::Incompatible {
                subject,
                reason: raw.message.clone(),
            },
            code if is_servers_fault(code, &error) => RegistryError::Unavailable(reason(&error)),
            _ => RegistryError::Refused(format!("{subject}: {}", reason(&error))),
        })
    }

    /// The schema of an id. `Err` only when the registry does not answer the question.
    pub(crate) async fn by_id(&self, id: u32) -> Result<ById, String> {
        match get_schema_by_id(id, &self.converter).await {
            Ok(found) if found.schema_type != SchemaType::Avro => {
                Ok(ById::Unusable("not an Avro schema".to_owned()))
            }
            Ok(found) if !found.references.is_empty() => {
                Ok(ById::Unusable("it refers to other schemas".to_owned()))
            }
            Ok(found) => Ok(ById::Avro(found.schema)),
            // Only the registry's own words count: a 404 of something in between has no such code.
            Err(error) => match raw_error(&error).map(|raw| raw.error_code) {
                Some(SCHEMA_NOT_FOUND) => Ok(ById::Unknown),
                _ => Err(reason(&error)),
            },
        }
    }

    async fn check(&self, message: MessageSchema) -> Result<Compatibility, RegistryError> {
        let mut found = Compatibility {
            subject: message.subject.to_owned(),
            id: None,
            compatible: true,
            messages: Vec::new(),
        };
        match self.look_up(message).await {
            Ok(id) => found.id = Some(id),
            Err(RegistryError::NotRegistered(_)) => {
                (found.compatible, found.messages) = self.compatible(message).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(found)
    }

    /// Whether a schema could be registered: against all versions, or the latest where a registry cannot do that.
    pub(crate) async fn compatible(
        &self,
        message: MessageSchema,
    ) -> Result<(bool, Vec<String>), RegistryError> {
        for which in ["versions", "versions/latest"] {
            let path = format!(
                "compatibility/subjects/{}/{which}?verbose=true",
                message.subject
            );
            let request = self
                .request(reqwest::Method::POST, &path)
                .header("content-type", "application/vnd.schemaregistry.v1+json")
                .body(supplied(message));
            match self.ask(request).await? {
                (200, answer) => {
                    let compatible = answer["is_compatible"].as_bool().unwrap_or(false);
                    let messages = answer["messages"].as_array().map(Vec::as_slice);
                    let messages = messages
                        .unwrap_or_default()
                        .iter()
                        .map(|text| {
                            text.as_str()
                                .map_or_else(|| text.to_string(), str::to_owned)
                        })
                        .collect();
                    return Ok((compatible, messages));
                }
                (404 | 405, answer) => {
                    let code = answer["error_code"].as_u64().unwrap_or_default();
                    if [SUBJECT_NOT_FOUND, VERSION_NOT_FOUND]
                        .map(u64::from)
                        .contains(&code)
                    {
                        // Nothing there to be incompatible with.
                        return Ok((true, Vec::new()));
                    }
                }
                (status, answer) => return Err(refused(message.subject, status, &answer)),
            }
        }
        Err(RegistryError::Refused(
            "it has no compatibility endpoint under registry.url".to_owned(),
        ))
    }

    async fn level(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        let request = self.request(reqwest::Method::GET, &format!("config/{subject}"));
        match self.ask(request).await? {
            (200, answer) => Ok(answer["compatibilityLevel"].as_str().map(str::to_owned)),
            (404, _) => Ok(None),
            (status, answer) => Err(refused(subject, status, &answer)),
        }
    }

    /// `false` if the subject is not there yet.
    async fn set_level(&self, subject: &str) -> Result<bool, RegistryError> {
        let mut tries = 0;
        loop {
            let request = self
                .request(reqwest::Method::PUT, &format!("config/{subject}"))
                .json(&json!({ "compatibility": LEVEL }));
            tries += 1;
            return match self.ask(request).await? {
                (200..300, _) => Ok(true),
                (404, _) => Ok(false),
                // Somebody else has just set it for the first time: Apicurio then refuses, and not the next time.
                (409, _) if tries < 3 => continue,
                (status, answer) => Err(refused(subject, status, &answer)),
            };
        }
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}/{path}", self.settings.url));
        match &self.settings.username {
            Some(name) => {
                let password = self
                    .settings
                    .password
                    .as_ref()
                    .map(|secret| secret.expose());
                request.basic_auth(name, password)
            }
            None => request,
        }
    }

    async fn ask(&self, request: reqwest::RequestBuilder) -> Result<(u16, Value), RegistryError> {
        let unavailable =
            |error: reqwest::Error| RegistryError::Unavailable(error.without_url().to_string());
        let answer = request.send().await.map_err(unavailable)?;
        let status = answer.status();
        let text = answer.text().await.map_err(unavailable)?;
        if status.is_server_error() {
            return Err(RegistryError::Unavailable(format!("it answered {status}")));
        }
        Ok((
            status.as_u16(),
            serde_json::from_str(&text).unwrap_or(Value::Null),
        ))
    }
}

fn supplied(message: MessageSchema) -> String {
    json!({ "schema": message.text, "schemaType": "AVRO" }).to_string()
}

fn refused(subject: &str, status: u16, answer: &Value) -> RegistryError {
    let text = answer["message"].as_str().unwrap_or("no reason given");
    RegistryError::Refused(format!("{subject}: {status}: {text}"))
}

/// What the registry itself said, if it said something.
fn raw_error(error: &SRCError) -> Option<&RawError> {
    let raw = std::error::Error::source(error)?.downcast_ref::<RawError>()?;
    (raw.error_code != 0).then_some(raw)
}

fn is_servers_fault(code: u32, error: &SRCError) -> bool {
    error.retriable || code / 100 == 5 || code / 10_000 == 5
}

fn reason(error: &SRCError) -> String {
    match &error.cause {
        Some(cause) => format!("{}: {cause}", error.error),
        None => error.error.clone(),
    }
}
