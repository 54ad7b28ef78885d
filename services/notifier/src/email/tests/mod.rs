//! The mailer against mail servers of this process, some of which behave badly.

pub(crate) mod server;

use std::time::Duration;

use tidegate_contract::{CallbackEvent, JobSummary, Secret, Tier};
use tokio::time::timeout;

use self::server::{Encryption, Say, Server};
use super::*;
use crate::payload::Notice;

/// No test waits longer for anything: what hangs is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
const ID: &str = "018f3a6e-7c1b-7d4e-9a51-3b6f0c2d8e4f";
const TWO: &str = "ops@example.com,b@example.com";

fn settings(server: &Server, security: Security) -> EmailSettings {
    EmailSettings {
        host: Some("localhost".to_owned()),
        port: Some(server.port),
        security,
        ca_file: Some(server.ca_file.clone()),
        from: "Tidegate <jobs@example.org>".to_owned(),
        ..EmailSettings::default()
    }
}

fn plain(server: &Server) -> Mailer {
    let settings = settings(server, Security::None);
    Mailer::new(&settings).unwrap().unwrap()
}

fn logged_in(server: &Server, security: Security) -> Mailer {
    let settings = EmailSettings {
        username: Some("me".to_owned()),
        password: Secret::new("hush"),
        ..settings(server, security)
    };
    Mailer::new(&settings).unwrap().unwrap()
}

fn hasty(server: &Server) -> Mailer {
    let settings = EmailSettings {
        timeout: Duration::from_millis(300),
        ..settings(server, Security::None)
    };
    Mailer::new(&settings).unwrap().unwrap()
}

async fn send(mailer: &Mailer, to: &str) -> Result<MailAnswer, MailError> {
    let job = JobSummary {
        job_type: "invoice".parse().unwrap(),
        pool: "default".parse().unwrap(),
        tier: Tier::Normal,
        tenant: "acme".parse().unwrap(),
        created_at: 0,
        deadline: 1,
        trace_id: None,
        retry_of: None,
        follow_ups: Vec::new(),
    };
    let mail = Mail {
        notice: Notice {
            id: ID.parse().unwrap(),
            event: CallbackEvent::Completed,
            ended_at: 1,
            attempt: 1,
            job: &job,
            outcome: None,
            error: None,
            public_url: "",
        },
        to,
        words: None,
    };
    let sent = timeout(PATIENCE, mailer.send(&mail)).await;
    sent.expect("the attempt hangs")
}

/// What became of it and the code, with the excerpt.
async fn outcome(mailer: &Mailer, to: &str) -> (MailDelivery, u16, String) {
    let answer = send(mailer, to).await.unwrap();
    (answer.delivery, answer.code, answer.excerpt)
}

#[tokio::test]
async fn mails_are_taken_one_after_the_other_on_one_connection() {
    let mut server = Server::start(Encryption::None, vec![]).await;
    let mailer = plain(&server);
    for _ in 0..2 {
        let expected = (MailDelivery::Taken, 250, "queued as 7".to_owned());
        assert_eq!(outcome(&mailer, TWO).await, expected);
    }
    let seen = server.seen();
    assert!(seen.iter().all(|(connection, _)| *connection == 1));
    let commands: Vec<&str> = seen.iter().map(|(_, it)| it.as_str()).collect();
    let mail = commands[5];
    assert!(mail.contains(&format!("Message-ID: <msg_{ID}_completed@example.org>\r\n")));
    assert!(mail.contains("\r\nTo: ops@example.com, b@example.com\r\n"));
    assert!(mail.contains(&format!("/v1/jobs/{ID}")));
    let once = [
        "MAIL FROM:<jobs@example.org>",
        "RCPT TO:<ops@example.com>",
        "RCPT TO:<b@example.com>",
        "DATA",
        mail,
    ];
    assert_eq!(commands[0], "EHLO example.org");
    assert_eq!(commands[1..6], once);
    assert_eq!(commands[6], "RSET");
    assert_eq!(commands[7..], once);
}

#[tokio::test]
async fn an_address_that_is_refused_for_now_keeps_the_mail_from_all() {
    let busy = vec![("RCPT TO:<b@", Say::Reply("451 4.2.0 greylisted"))];
    let mut server = Server::start(Encryption::None, vec![busy]).await;
    let mailer = plain(&server);
    let told = "b@example.com: 451 4.2.0 greylisted".to_owned();
    assert_eq!(
        outcome(&mailer, TWO).await,
        (MailDelivery::ForNow, 451, told)
    );
    assert_eq!(server.count("DATA"), 0);
    // And the connection serves the next one.
    assert_eq!(
        outcome(&mailer, "ops@example.com").await.0,
        MailDelivery::Taken
    );
    assert_eq!(server.count("EHLO"), 0);
}

#[tokio::test]
async fn an_address_that_is_refused_for_good_does_not_keep_it_from_the_others() {
    let gone = vec![("RCPT TO:<b@", Say::Reply("550 5.1.1 no such user"))];
    let mut server = Server::start(Encryption::None, vec![gone]).await;
    let mailer = plain(&server);
    let told = "not to b@example.com: 550 5.1.1 no such user; to the others: queued as 7";
    let expected = (MailDelivery::Taken, 250, told.to_owned());
    assert_eq!(outcome(&mailer, TWO).await, expected);
    let told = "b@example.com: 550 5.1.1 no such user".to_owned();
    let expected = (MailDelivery::ForGood, 550, told);
    assert_eq!(outcome(&mailer, "b@example.com").await, expected);
    assert_eq!(server.count("DATA"), 1);
}

#[tokio::test]
async fn what_the_server_says_of_the_mail_itself_counts() {
    let full = vec![(".", Say::Reply("452 no space"))];
    let spam = vec![(".", Say::Reply("554-we do not\r\n554 want this"))];
    let nobody = vec![("DATA", Say::Reply("554 no valid recipients"))];
    for (script, delivery, code, told) in [
        (full, MailDelivery::ForNow, 452, "no space"),
        (spam, MailDelivery::ForGood, 554, "we do not want this"),
        (nobody, MailDelivery::ForGood, 554, "no valid recipients"),
    ] {
        let server = Server::start(Encryption::None, vec![script]).await;
        let expected = (delivery, code, told.to_owned());
        assert_eq!(outcome(&plain(&server), TWO).await, expected);
    }
}

#[tokio::test]
async fn what_is_wrong_with_us_is_not_the_end_of_a_mail() {
    for (script, code) in [
        (vec![("greeting", Say::Reply("554 go away"))], 554),
        (vec![("EHLO", Say::Reply("550 not you"))], 550),
        (vec![("AUTH", Say::Reply("535 wrong password"))], 535),
        (vec![("MAIL", Say::Reply("553 not your address"))], 553),
    ] {
        let mut server = Server::start(Encryption::None, vec![script]).await;
        let (delivery, got, _) = outcome(&logged_in(&server, Security::None), TWO).await;
        assert_eq!((delivery, got), (MailDelivery::FromNobody, code));
        assert_eq!(server.count("RCPT"), 0);
    }
}

#[tokio::test]
async fn a_server_that_hangs_costs_one_attempt_and_its_connection() {
    for begin in ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        let first = vec![(begin, Say::Hang)];
        let mut server = Server::start(Encryption::None, vec![first, vec![]]).await;
        let error = send(&hasty(&server), TWO).await.unwrap_err();
        assert_eq!(error, MailError::Timeout(Duration::from_millis(300)));
        let said = "the mail server did not take the mail within 300ms";
        assert_eq!(error.to_string(), said);
        server.seen();
        // The reply that never came is not waited for by anybody else.
        let patient = plain(&server);
        assert_eq!(outcome(&patient, TWO).await.0, MailDelivery::Taken);
        assert!(server.seen().iter().all(|(connection, _)| *connection == 2));
    }
}

#[tokio::test]
async fn a_connection_that_was_given_up_half_way_is_not_used_again() {
    let first = vec![(".", Say::Hang)];
    let mut server = Server::start(Encryption::None, vec![first, vec![]]).await;
    let mailer = hasty(&server);
    let error = send(&mailer, TWO).await.unwrap_err();
    assert_eq!(error, MailError::Timeout(Duration::from_millis(300)));
    server.seen();
    // Slow machines may need more attempts; none of them gets to the first connection.
    while send(&mailer, TWO).await.is_err() {}
    assert!(server.seen().iter().all(|(connection, _)| *connection > 1));
}

#[tokio::test]
async fn a_server_that_goes_away_half_way_is_tried_again_later() {
    for (begin, connected) in [
        ("greeting", false),
        ("EHLO", false),
        ("RCPT", true),
        (".", true),
    ] {
        let script = vec![(begin, Say::HangUp)];
        let server = Server::start(Encryption::None, vec![script]).await;
        let error = send(&plain(&server), TWO).await.unwrap_err();
        assert_eq!(matches!(error, MailError::Broken(_)), connected, "{error}");
        assert_eq!(
            matches!(error, MailError::Connect(_)),
            !connected,
            "{error}"
        );
        assert!(!error.is_final());
    }
}

#[tokio::test]
async fn a_yes_in_the_wrong_place_is_none() {
    for (begin, told) in [
        ("MAIL", "354 go on"),
        ("RCPT", "354 go on"),
        ("DATA", "250 fine"),
        (".", "354 go on"),
    ] {
        let script = vec![(begin, Say::Reply(told))];
        let server = Server::start(Encryption::None, vec![script]).await;
        let error = send(&plain(&server), TWO).await.unwrap_err();
        assert!(
            error.to_string().ends_with("does not belong here"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_is_replaced() {
    let once = vec![("RSET", Say::HangUp)];
    let mut server = Server::start(Encryption::None, vec![once, vec![]]).await;
    let mailer = plain(&server);
    for _ in 0..2 {
        assert_eq!(outcome(&mailer, TWO).await.0, MailDelivery::Taken);
    }
    assert_eq!(server.count("EHLO"), 2);
}

#[tokio::test]
async fn nothing_is_sent_in_the_open_where_starttls_is_wanted() {
    let mut server = Server::start(Encryption::None, vec![]).await;
    let mailer = logged_in(&server, Security::Starttls);
    let error = send(&mailer, TWO).await.unwrap_err().to_string();
    assert!(error.contains("it offers no STARTTLS"), "{error}");
    let seen = server.seen();
    assert!(
        seen.iter().all(|(_, it)| it.starts_with("EHLO")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn login_and_mail_are_encrypted() {
    for (encryption, security) in [
        (Encryption::Starttls, Security::Starttls),
        (Encryption::Tls, Security::Tls),
    ] {
        let mut server = Server::start(encryption, vec![]).await;
        let mailer = logged_in(&server, security);
        for _ in 0..2 {
            assert_eq!(outcome(&mailer, TWO).await.0, MailDelivery::Taken);
        }
        let commands: Vec<_> = server.seen().into_iter().map(|(_, it)| it).collect();
        let at = |begin: &str| commands.iter().position(|it| it.starts_with(begin));
        assert!(at("AUTH PLAIN") > at("STARTTLS"));
        assert_eq!(at("STARTTLS").is_some(), encryption == Encryption::Starttls);
    }
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_gets_nothing() {
    for (encryption, security) in [
        (Encryption::Starttls, Security::Starttls),
        (Encryption::Tls, Security::Tls),
    ] {
        let mut server = Server::start(encryption, vec![]).await;
        let settings = EmailSettings {
            ca_file: None,
            ..settings(&server, security)
        };
        let mailer = Mailer::new(&settings).unwrap().unwrap();
        let error = send(&mailer, TWO).await.unwrap_err();
        assert!(matches!(error, MailError::Connect(_)), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
        assert_eq!(server.count("MAIL"), 0);
    }
}

#[tokio::test]
async fn what_is_slipped_in_before_the_encryption_is_not_taken_for_what_comes_after_it() {
    let slipped = vec![("STARTTLS", Say::Reply("220 go\r\n250-me\r\n250 AUTH PLAIN"))];
    let mut server = Server::start(Encryption::Starttls, vec![slipped]).await;
    let mailer = logged_in(&server, Security::Starttls);
    let error = send(&mailer, TWO).await.unwrap_err();
    assert!(matches!(error, MailError::Connect(_)), "{error}");
    assert_eq!(server.count("AUTH"), 0);
}

#[tokio::test]
async fn mails_wait_for_a_connection_as_long_as_an_attempt_may_take() {
    let mut server = Server::start(Encryption::None, vec![]).await;
    let mailer = hasty(&server);
    let taken = mailer.slots.acquire_many(4).await.unwrap();
    let error = send(&mailer, TWO).await.unwrap_err();
    assert_eq!(error, MailError::Busy(Duration::from_millis(300)));
    drop(taken);
    assert_eq!(server.count("EHLO"), 0);
}

#[tokio::test]
async fn a_target_that_is_no_list_of_addresses_is_given_up() {
    let server = Server::start(Encryption::None, vec![]).await;
    for to in ["", "nobody", "a@example.com>\r\nRSET"] {
        let error = send(&plain(&server), to).await.unwrap_err();
        assert!(error.is_final(), "{error}");
    }
}

#[tokio::test]
async fn a_mailer_is_made_only_of_what_can_be_used() {
    assert!(Mailer::new(&EmailSettings::default()).unwrap().is_none());
    let server = Server::start(Encryption::None, vec![]).await;
    let message = |change: fn(&mut EmailSettings)| {
        let mut settings = settings(&server, Security::Tls);
        change(&mut settings);
        Mailer::new(&settings).err().unwrap().to_string()
    };
    let told = message(|it| it.connections = 0);
    assert_eq!(told, "connections must be from 1 to 100");
    let told = message(|it| it.ca_file = Some("/nowhere/ca.pem".into()));
    assert!(
        told.starts_with("ca_file /nowhere/ca.pem cannot be used: "),
        "{told}"
    );
    let told = message(|it| it.ca_file = Some("/dev/null".into()));
    assert!(told.ends_with("there is no certificate in it"), "{told}");
}

#[tokio::test]
async fn a_greeting_shows_whether_the_server_would_take_a_mail_and_sends_none() {
    let mut good = Server::start(Encryption::Starttls, vec![]).await;
    let greeted = logged_in(&good, Security::Starttls).greet(PATIENCE).await;
    assert_eq!(greeted, Ok(()));
    assert_eq!((good.count("QUIT"), good.count("MAIL")), (1, 0));

    let refuses = vec![("AUTH", Say::Reply("535 wrong password"))];
    let closed = vec![("greeting", Say::Reply("554 go away"))];
    let hangs = vec![("EHLO", Say::Hang)];
    let soon = Duration::from_millis(300);
    for (script, limit, part) in [
        (refuses, PATIENCE, "535 wrong password"),
        (closed, PATIENCE, "554 go away"),
        (hangs, soon, "no answer within 300ms"),
    ] {
        let server = Server::start(Encryption::Starttls, vec![script]).await;
        let mailer = logged_in(&server, Security::Starttls);
        let why = mailer.greet(limit).await.unwrap_err();
        assert!(why.contains(part) && !why.contains("hush"), "{why}");
    }
}
