//! What running roles are asked, and the time of whoever speaks HTTP.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Url;
use tidegate_contract::now_millis;

use crate::commands::client;
use crate::diagnosis::clocks::Sample;
use crate::diagnosis::roles::{Asked, Running};
use crate::exit::Failure;
use crate::settings::Settings;

/// Readiness and metrics are known, not looked for.
const LIMIT: Duration = Duration::from_secs(3);

/// Who is to be asked: base URL, and whether it is only guessed.
pub type Address = (Url, bool);

/// The roles that were named; without any, those that may listen where this configuration says.
///
/// # Errors
/// With code 2 when a name is no URL.
pub fn addresses(settings: &Settings, named: &[String]) -> Result<Vec<Address>, Failure> {
    if !named.is_empty() {
        let urls = named.iter().map(|url| client::under("--role", url, ""));
        return urls.map(|url| Ok((url?, false))).collect();
    }
    let listen = [
        &settings.gateway.listen,
        &settings.worker.listen,
        &settings.notifier.listen,
    ];
    Ok(listen
        .iter()
        .filter_map(|listen| Some((here(listen)?, true)))
        .collect())
}

/// Where a role with that address is reached from this machine, if it is on it.
fn here(listen: &str) -> Option<Url> {
    let (host, port) = listen.rsplit_once(':')?;
    let host = match host {
        "0.0.0.0" | "[::]" | "" => "127.0.0.1",
        host => host,
    };
    let url: Url = format!("http://{host}:{port}").parse().ok()?;
    (port.parse::<u16>().ok()? != 0).then_some(url)
}

/// Asks all of them at once.
pub async fn look(addresses: Vec<Address>) -> Vec<(Asked, Option<Sample>)> {
    let asked = addresses.into_iter().map(|(url, guessed)| async move {
        let (answer, time) = ask(&url).await;
        let url = url.as_str().trim_end_matches('/').to_owned();
        let asked = Asked {
            url,
            answer,
            guessed,
        };
        (asked, time)
    });
    join_all(asked).await
}

async fn ask(base: &Url) -> (Result<Running, String>, Option<Sample>) {
    let readiness = match get(base, "readyz").await {
        Ok(answer) => answer,
        Err(reason) => return (Err(reason), None),
    };
    let metrics = match get(base, "metrics").await {
        Ok(answer) => answer.text,
        Err(reason) => return (Err(reason), None),
    };
    let running = Running::read(&readiness.text, &metrics);
    let running = running.ok_or_else(|| format!("{base} does not answer as a role does"));
    (running, readiness.time)
}

/// The time of a server, if its answers have one.
///
/// # Errors
/// Why there is no answer.
pub async fn time(url: &str) -> Result<Option<Sample>, String> {
    let base: Url = url.parse().map_err(|error| format!("{error}"))?;
    match get(&base, "").await {
        Ok(answer) => Ok(answer.time),
        Err(reason) => {
            let cause = reason.strip_prefix("cannot reach ");
            let cause = cause.and_then(|rest| Some(rest.split_once(": ")?.1));
            Err(cause.unwrap_or(&reason).to_owned())
        }
    }
}

struct Answer {
    text: String,
    time: Option<Sample>,
}

async fn get(base: &Url, path: &str) -> Result<Answer, String> {
    let address = format!("{}/{path}", base.as_str().trim_end_matches('/'));
    let address: Url = address
        .parse()
        .map_err(|error| format!("{base}: {error}"))?;
    let client = reqwest::Client::builder()
        .timeout(LIMIT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| error.to_string())?;
    let asked = now_millis();
    let failed = |error: reqwest::Error| client::unreachable(&address, &error);
    let answer = client.get(address.clone()).send().await.map_err(failed)?;
    let answered = now_millis();
    let date = answer.headers().get(reqwest::header::DATE);
    let time = date.and_then(|date| {
        let date = httpdate::parse_http_date(date.to_str().ok()?).ok()?;
        let since = date.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some(Sample {
            asked,
            theirs: i64::try_from(since.as_millis()).ok()?,
            step: Sample::SECONDS,
            answered,
        })
    });
    let text = answer.text().await.map_err(failed)?;
    Ok(Answer { text, time })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_looked_for_where_they_may_listen() {
        let of = |listen| here(listen).map(|url| url.to_string());
        assert_eq!(
            of("0.0.0.0:8080").as_deref(),
            Some("http://127.0.0.1:8080/")
        );
        assert_eq!(of("[::1]:8091").as_deref(), Some("http://[::1]:8091/"));
        assert_eq!(of("10.0.0.7:80").as_deref(), Some("http://10.0.0.7/"));
        for none in ["127.0.0.1:0", "", "8080"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
