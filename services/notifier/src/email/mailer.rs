//! Hands mails to the server. Nothing that the server does costs more than one attempt of bounded length.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use lettre::Address;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, TlsParameters, TlsParametersBuilder,
};
use lettre::transport::smtp::commands::{Data, Mail as MailFrom, Rcpt, Rset};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Severity;
use tidegate_contract::Recipients;
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::{
    DONE, Ended, MailAnswer, MailDelivery, MailError, before, excerpt, no_connection,
    not_of_the_mail, reply, text,
};
use super::message::{Mail, Sender, addresses, message};
use super::settings::{EmailSettings, Security};
use super::stream::Stream;
use crate::settings::BadSetting;

/// A connection that nobody has used for so long is not used again: servers close them.
const IDLE: Duration = Duration::from_secs(30);
/// Of how many parts of the time one address of the server may take one.
const TRIES: u32 = 3;

/// There is no mailer, and so no e-mails.
#[derive(Debug, thiserror::Error)]
pub enum MailerError {
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] BadSetting),
    /// The file of root certificates.
    #[error("ca_file {file} cannot be used: {reason}", file = file.display())]
    CaFile {
        /// Its name.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No encryption.
    #[error("no encryption for mails: {0}")]
    Tls(String),
}

/// The client of one mail server, with its connections.
pub struct Mailer {
    host: String,
    port: u16,
    security: Security,
    /// There unless `security` is `none`.
    tls: Option<TlsParameters>,
    hello: ClientId,
    login: Option<Credentials>,
    sender: Sender,
    timeout: Duration,
    /// One for each connection that may be open.
    pub(super) slots: Semaphore,
    idle: Mutex<Vec<(AsyncSmtpConnection, Instant)>>,
}

impl Mailer {
    /// The mailer of a configuration; `None` if it names no server. Connects to nobody yet.
    ///
    /// # Errors
    /// A setting that is wrong, a file of certificates that cannot be read, no root certificates at all.
    pub fn new(settings: &EmailSettings) -> Result<Option<Self>, MailerError> {
        settings.check()?;
        let (Some(host), Some(from)) = (&settings.host, EmailSettings::mailbox(&settings.from))
        else {
            return Ok(None);
        };
        let hello = settings.hello_name.as_deref();
        let hello = hello.unwrap_or(from.email.domain()).to_owned();
        let password = settings.password.expose().to_owned();
        let login = settings.username.clone();
        Ok(Some(Self {
            host: host.clone(),
            port: settings.port(),
            security: settings.security,
            tls: match settings.security {
                Security::None => None,
                Security::Starttls | Security::Tls => Some(tls(host, settings)?),
            },
            hello: ClientId::Domain(hello),
            login: login.map(|username| Credentials::new(username, password)),
            sender: Sender {
                from,
                reply_to: settings
                    .reply_to
                    .as_deref()
                    .and_then(EmailSettings::mailbox),
            },
            timeout: settings.timeout,
            slots: Semaphore::new(settings.connections),
            idle: Mutex::default(),
        }))
    }

    /// Host and port of the server.
    pub fn server(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// Connects, logs in and takes its leave: whether the server would take a mail. Sends none.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn greet(&self, limit: Duration) -> Result<(), String> {
        let greeting = async {
            let mut connection = self.connect().await?;
            // It has said yes to all that matters.
            let _ = connection.quit().await;
            Ok(())
        };
        match timeout(limit, greeting).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Ended::Answer(MailAnswer { code, excerpt, .. }))) => {
                Err(format!("it replies {code} {excerpt}"))
            }
            Ok(Err(Ended::Error(error))) => Err(error.to_string()),
            Err(_) => Err(format!(
                "no answer within {}",
                humantime::format_duration(limit)
            )),
        }
    }

    /// Makes one attempt. A mail that is sent again, after a time that was up say, has the same `Message-ID`.
    ///
    /// An address that is refused for good does not keep the mail from the other ones: it is named in the excerpt. One
    /// that is refused for now does: nobody gets the mail yet, so that nobody gets it twice.
    ///
    /// # Errors
    /// [`MailError`], if there is no reply that counts.
    pub async fn send(&self, mail: &Mail<'_>) -> Result<MailAnswer, MailError> {
        let to = addresses(&mail.to.parse::<Recipients>()?)
            .map_err(|address| MailError::Message(format!("`{address}` is not an address")))?;
        let message = message(mail, &to, &self.sender)
            .map_err(|error| MailError::Message(error.to_string()))?;
        let deadline = Instant::now() + self.timeout;
        // It is never closed.
        let Ok(Ok(_slot)) = timeout_at(deadline, self.slots.acquire()).await else {
            return Err(MailError::Busy(self.timeout));
        };
        // A conversation that is cut off here takes its connection along: nobody reads a reply to what another one said.
        let attempt = timeout_at(deadline, self.attempt(&to, &message));
        match attempt
            .await
            .map_err(|_| MailError::Timeout(self.timeout))?
        {
            Ok(answer) | Err(Ended::Answer(answer)) => Ok(answer),
            Err(Ended::Error(error)) => Err(error),
        }
    }

    async fn attempt(&self, to: &[Address], message: &[u8]) -> Result<MailAnswer, Ended> {
        let mut connection = match self.kept().await {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let ended = self.converse(&mut connection, to, message).await;
        if !matches!(ended, Err(Ended::Error(_))) {
            self.idle().push((connection, Instant::now()));
        }
        ended
    }

    /// A connection that was used before and is still there, with nothing of the mail before it.
    async fn kept(&self) -> Option<AsyncSmtpConnection> {
        loop {
            let (mut connection, since) = self.idle().pop()?;
            if since.elapsed() < IDLE && connection.command(Rset).await.is_ok() {
                return Some(connection);
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(AsyncSmtpConnection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is protected and logged in. Whatever the server says until then is not about the mail.
    async fn connect(&self) -> Result<AsyncSmtpConnection, Ended> {
        let opened = match (self.security, &self.tls) {
            (Security::Starttls, Some(tls)) => self.starttls(tls.clone()).await?,
            (_, tls) => {
                let each = Some(self.timeout / TRIES);
                let server = (self.host.as_str(), self.port);
                let (hello, tls) = (&self.hello, tls.clone());
                AsyncSmtpConnection::connect_tokio1(server, each, hello, tls, None)
                    .await
                    .map_err(|error| before(&error))?
            }
        };
        let mut connection = opened;
        if let Some(login) = &self.login {
            connection
                .auth(&[Mechanism::Plain, Mechanism::Login], login)
                .await
                .map_err(|error| before(&error))?;
        }
        Ok(connection)
    }

    async fn starttls(&self, tls: TlsParameters) -> Result<AsyncSmtpConnection, Ended> {
        let (stream, encrypted) = Stream::new(self.reach().await?);
        let hello = &self.hello;
        let opened = AsyncSmtpConnection::connect_with_transport(Box::new(stream), hello).await;
        let mut connection = opened.map_err(|error| before(&error))?;
        if !connection.can_starttls() {
            return Err(no_connection(
                "it offers no STARTTLS, and security = \"starttls\"",
            ));
        }
        let upgraded = connection.starttls(tls, hello).await;
        upgraded.map_err(|error| before(&error))?;
        encrypted.now();
        Ok(connection)
    }

    async fn reach(&self) -> Result<TcpStream, Ended> {
        let addresses = lookup_host((self.host.as_str(), self.port)).await;
        let mut reason = "its name has no address".to_owned();
        for address in addresses.map_err(|error| no_connection(error.to_string()))? {
            match timeout(self.timeout / TRIES, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => return Ok(tcp),
                Ok(Err(error)) => reason = error.to_string(),
                Err(_) => reason = format!("{address} does not answer"),
            }
        }
        Err(no_connection(reason))
    }

    async fn converse(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: &[Address],
        message: &[u8],
    ) -> Result<MailAnswer, Ended> {
        let from = MailFrom::new(Some(self.sender.from.email.clone()), Vec::new());
        // Depends on the settings alone, as the login does.
        let taken = connection.command(from).await;
        reply(taken, DONE, MailDelivery::FromNobody).map_err(not_of_the_mail)?;
        let mut refused: Vec<(u16, String)> = Vec::new();
        for address in to {
            let rcpt = Rcpt::new(address.clone(), Vec::new());
            let taken = connection.command(rcpt).await;
            if let Err(ended) = reply(taken, DONE, MailDelivery::ForGood) {
                let Ended::Answer(mut answer) = ended else {
                    return Err(ended);
                };
                let told = format!("{address}: {} {}", answer.code, answer.excerpt);
                if answer.delivery == MailDelivery::ForNow {
                    answer.excerpt = excerpt(&told);
                    return Err(Ended::Answer(answer));
                }
                refused.push((answer.code, told));
            }
        }
        let names = refused.iter().map(|(_, told)| told.as_str());
        let names = names.collect::<Vec<_>>().join("; ");
        if let Some((code, _)) = refused.last().filter(|_| refused.len() == to.len()) {
            return Err(Ended::Answer(MailAnswer {
                delivery: MailDelivery::ForGood,
                code: *code,
                excerpt: excerpt(&names),
            }));
        }
        let told = connection.command(Data).await;
        let go_on = Severity::PositiveIntermediate;
        reply(told, go_on, MailDelivery::ForGood)?;
        let taken = connection.message(message).await;
        let reply = reply(taken, DONE, MailDelivery::ForGood)?;
        let mut text = text(&reply);
        if !names.is_empty() {
            text = format!("not to {names}; to the others: {text}");
        }
        Ok(MailAnswer {
            delivery: MailDelivery::Taken,
            code: reply.code().into(),
            excerpt: excerpt(&text),
        })
    }
}

/// The encryption that the settings ask for: the roots of the system, and those of a file.
fn tls(host: &str, settings: &EmailSettings) -> Result<TlsParameters, MailerError> {
    let mut builder = TlsParametersBuilder::new(host.to_owned());
    if let Some(file) = &settings.ca_file {
        let bad = |reason: String| MailerError::CaFile {
            file: file.clone(),
            reason,
        };
        let pem = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
        if !String::from_utf8_lossy(&pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(bad("there is no certificate in it".to_owned()));
        }
        let root = Certificate::from_pem(&pem).map_err(|error| bad(error.to_string()))?;
        builder = builder.add_root_certificate(root);
    }
    let built = builder.build_rustls();
    built.map_err(|error| MailerError::Tls(error.to_string()))
}
