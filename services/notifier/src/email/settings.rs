//! The settings of the mail server, and what they may be.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use tidegate_contract::Secret;

use crate::settings::BadSetting;

/// How the connection to the server is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Security {
    /// Encrypted after a `STARTTLS`; nothing is sent without it. Port 587.
    #[default]
    Starttls,
    /// Encrypted from the first byte. Port 465.
    Tls,
    /// Not at all: for a server on this host. Port 25.
    None,
}

/// The server that takes mails, and in whose name. Durations are texts such as `20s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmailSettings {
    /// Name or address of the server; without one there are no e-mails.
    pub host: Option<String>,
    /// Another port than the usual one of `security`.
    pub port: Option<u16>,
    /// How the connection is protected.
    pub security: Security,
    /// Allows `security = "none"` to another host than this one. Mails can be read on the way then.
    pub allow_plaintext: bool,
    /// PEM file of root certificates that are trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// For a server that wants a login.
    pub username: Option<String>,
    /// Goes with `username`.
    pub password: Secret,
    /// The sender, such as `Tidegate <jobs@example.com>`.
    pub from: String,
    /// Where answers go, if not to the sender.
    pub reply_to: Option<String>,
    /// By which name we introduce ourselves; without one, by the domain of `from`.
    pub hello_name: Option<String>,
    /// For one attempt, from the wait for a connection to the last reply.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Connections that are open at once, at most.
    pub connections: usize,
}

impl Default for EmailSettings {
    fn default() -> Self {
        Self {
            host: None,
            port: None,
            security: Security::default(),
            allow_plaintext: false,
            ca_file: None,
            username: None,
            password: Secret::default(),
            from: String::new(),
            reply_to: None,
            hello_name: None,
            timeout: Duration::from_secs(20),
            connections: 4,
        }
    }
}

impl EmailSettings {
    /// The port that is connected to.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            Security::Starttls => 587,
            Security::Tls => 465,
            Security::None => 25,
        })
    }

    /// A mailbox whose address every server takes.
    pub(super) fn mailbox(text: &str) -> Option<Mailbox> {
        let mailbox: Mailbox = text.parse().ok()?;
        let address: &str = mailbox.email.as_ref();
        address.is_ascii().then_some(mailbox)
    }

    /// Refuses what would send nothing, or in the open. Without a server all else is looked at, too, except for what
    /// must be there with one.
    ///
    /// # Errors
    /// The first setting that is out of its bounds, by name.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = BadSetting::new;
        let seconds = Duration::from_secs;
        if !(Duration::from_millis(1)..=seconds(60)).contains(&self.timeout) {
            return bad("timeout", "must be from 1ms to 60s");
        }
        if !(1..=100).contains(&self.connections) {
            return bad("connections", "must be from 1 to 100");
        }
        if self.port == Some(0) {
            return bad("port", "must be from 1 to 65535");
        }
        if self.host.as_deref().is_some_and(|host| !is_host(host)) {
            return bad("host", "is not the name or address of a server");
        }
        if self
            .hello_name
            .as_deref()
            .is_some_and(|name| !is_name(name))
        {
            return bad("hello_name", "is not a host name");
        }
        let is_mailbox = |text: &str| Self::mailbox(text).is_some();
        if !is_mailbox(&self.from) && (self.host.is_some() || !self.from.is_empty()) {
            return bad(
                "from",
                "must be an address, such as `Tidegate <jobs@example.com>`",
            );
        }
        if self
            .reply_to
            .as_deref()
            .is_some_and(|text| !is_mailbox(text))
        {
            return bad(
                "reply_to",
                "must be an address, such as `Team <team@example.com>`",
            );
        }
        match (&self.username, self.password.expose().is_empty()) {
            (Some(_), true) => return bad("password", "is missing: it goes with username"),
            (None, false) => return bad("username", "is missing: it goes with password"),
            _ => {}
        }
        let local = self.host.as_deref().is_none_or(is_loopback);
        if self.security == Security::None && !local {
            if self.username.is_some() {
                return bad(
                    "security",
                    "must be starttls or tls with a login: none would show the password",
                );
            }
            if !self.allow_plaintext {
                return bad(
                    "security",
                    "must be starttls or tls, or allow_plaintext = true: none shows mails on the way to another host",
                );
            }
        }
        Ok(())
    }
}

/// What stands for this host in a configuration.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|it| it.is_loopback())
}

fn is_host(text: &str) -> bool {
    is_name(text) || text.parse::<IpAddr>().is_ok()
}

/// Nothing that could end a line of the protocol.
fn is_name(text: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EmailSettings {
        EmailSettings {
            host: Some("mail.example.com".to_owned()),
            from: "Tidegate <jobs@example.com>".to_owned(),
            ..EmailSettings::default()
        }
    }

    #[test]
    fn the_defaults_are_good_and_send_nothing() {
        assert_eq!(EmailSettings::default().check(), Ok(()));
        assert_eq!(EmailSettings::default().host, None);
        assert_eq!(settings().check(), Ok(()));
    }

    #[test]
    fn they_are_configured_with_texts_and_the_password_is_not_shown() {
        let text = r#"{"host":"m.example","security":"tls","password":"hush-hush","timeout":"7s"}"#;
        let settings: EmailSettings = serde_json::from_str(text).unwrap();
        assert_eq!((settings.port(), settings.timeout.as_secs()), (465, 7));
        let shown = serde_json::to_string(&settings).unwrap() + &format!("{settings:?}");
        assert!(!shown.contains("hush"), "{shown}");
        assert!(serde_json::from_str::<EmailSettings>(r#"{"hots":"m"}"#).is_err());
        for (security, port) in [
            (Security::Starttls, 587),
            (Security::Tls, 465),
            (Security::None, 25),
        ] {
            let settings = EmailSettings {
                security,
                ..EmailSettings::default()
            };
            assert_eq!(settings.port(), port);
        }
    }

    #[test]
    fn what_cannot_send_is_refused_by_name() {
        let key = |change: &dyn Fn(&mut EmailSettings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.check().unwrap_err().key
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(key(&|it| it.timeout = Duration::ZERO), "timeout");
        assert_eq!(key(&|it| it.timeout = Duration::from_secs(61)), "timeout");
        assert_eq!(key(&|it| it.connections = 0), "connections");
        assert_eq!(key(&|it| it.port = Some(0)), "port");
        assert_eq!(key(&|it| it.host = text("smtp://a.example")), "host");
        assert_eq!(key(&|it| it.host = text("")), "host");
        assert_eq!(key(&|it| it.hello_name = text("a\r\nb")), "hello_name");
        assert_eq!(key(&|it| it.from = String::new()), "from");
        assert_eq!(key(&|it| it.from = "a@b.example\nx".to_owned()), "from");
        assert_eq!(key(&|it| it.reply_to = text("nobody")), "reply_to");
        assert_eq!(key(&|it| it.username = text("me")), "password");
        assert_eq!(key(&|it| it.password = Secret::new("x")), "username");
        assert_eq!(key(&|it| it.security = Security::None), "security");
    }

    #[test]
    fn nothing_goes_in_the_open_to_another_host_unless_that_is_allowed_and_no_password_ever() {
        let open = |host: &str, allow_plaintext: bool, login: bool| {
            let settings = EmailSettings {
                host: Some(host.to_owned()),
                security: Security::None,
                allow_plaintext,
                username: login.then(|| "me".to_owned()),
                password: Secret::new(if login { "secret" } else { "" }),
                ..settings()
            };
            settings.check().is_ok()
        };
        for host in ["localhost", "127.0.0.1", "::1"] {
            assert!(open(host, false, true), "{host}");
        }
        for host in ["mail.example.com", "10.0.0.1", "localhost.example.com"] {
            assert!(!open(host, false, false), "{host}");
            assert!(open(host, true, false), "{host}");
            assert!(!open(host, true, true), "{host}");
        }
    }
}
