//! What makes two requests under one idempotency key the same: everything that makes the job what it is. Pure.
//!
//! That is its type, its body byte for byte and its media type, method, path and query, the headers that the type lets
//! through, the serial key, and tier, deadline, delay and callback as they were asked for. Left out are credentials and trace context, which may differ
//! from one try to the next, and what only says how the answer comes back, such as `Prefer`.

use sha2::{Digest, Sha256};
use tidegate_contract::JobMessage;

use crate::options::{Asked, AskedTime};

/// Another way to reckon gets another number, so that keys of before are no match rather than a false one.
const VERSION: u8 = 1;

/// Headers that a type may let through and that say who asks or why, not what for.
const NOT_COUNTED: [&str; 7] = [
    "authorization",
    "baggage",
    "cookie",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-api-key",
];

/// SHA-256 over the parts, each behind its length.
pub fn fingerprint(job: &JobMessage, asked: &Asked) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix([VERSION]);
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    part(job.job_type.as_str().as_bytes());
    part(&job.body);
    part(job.content_type.as_deref().unwrap_or_default().as_bytes());
    let request = &job.request;
    part(request.method.as_bytes());
    part(request.path.as_bytes());
    let headers = request.headers.iter();
    let headers = headers.filter(|pair| !NOT_COUNTED.contains(&pair.name.as_str()));
    for pairs in [
        request.query.iter().collect::<Vec<_>>(),
        headers.collect::<Vec<_>>(),
    ] {
        part(&(pairs.len() as u64).to_be_bytes());
        for pair in pairs {
            part(pair.name.as_bytes());
            part(pair.value.as_bytes());
        }
    }
    part(asked.tier.map_or("", |tier| tier.as_str()).as_bytes());
    for time in [asked.deadline, asked.delay] {
        match time {
            None => part(b""),
            Some(AskedTime::At(at)) => part(format!("at {at}").as_bytes()),
            Some(AskedTime::Within(ms)) => part(format!("within {ms}").as_bytes()),
        }
    }
    // Only where there is one, so that fingerprints of before stay what they are.
    if let Some(key) = &job.serial_key {
        part(b"serial");
        part(key.as_bytes());
    }
    if let Some(callback) = &asked.callback {
        part(b"callback");
        part(callback.url.as_bytes());
        part(callback.events.to_string().as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::AskedCallback;
    use tidegate_contract::{JobId, Pair, RequestInfo, Tier};

    fn job() -> JobMessage {
        JobMessage {
            job_id: JobId::generate(),
            job_type: "echo".parse().unwrap(),
            pool: Default::default(),
            tier: Tier::Normal,
            tenant: Default::default(),
            attempt: 1,
            created_at: 1,
            deadline: 2,
            reply_partition: 3,
            request: RequestInfo {
                method: "POST".into(),
                path: "/v1/jobs/echo".into(),
                query: vec![Pair::new("a", "b"), Pair::new("c", "")],
                headers: vec![Pair::new("accept", "text/csv")],
                ..RequestInfo::default()
            },
            content_type: Some("application/json".into()),
            body: "{}".into(),
            serial_key: None,
            not_before: None,
            retry_of: None,
            redrives: 0,
            follow_ups: Vec::new(),
        }
    }

    fn callback(url: &str, events: &str) -> Option<AskedCallback> {
        let url = url.to_owned();
        let events = events.parse().unwrap_or_default();
        Some(AskedCallback { url, events })
    }

    /// Everything that a later try has of its own makes no difference.
    #[test]
    fn a_repeat_is_the_same_request() {
        let first = fingerprint(&job(), &Asked::default());
        let mut again = job();
        again.created_at += 10_000;
        again.deadline += 10_000;
        again.reply_partition += 1;
        for name in NOT_COUNTED {
            again.request.headers.push(Pair::new(name, "new"));
        }
        assert_eq!(first, fingerprint(&again, &Asked::default()));
        // Of the type, and may change with it.
        again.tier = Tier::High;
        again.pool = "gpu".parse().unwrap();
        assert_eq!(first, fingerprint(&again, &Asked::default()));
    }

    #[test]
    fn whatever_changes_the_job_is_another_request() {
        type Bend = fn(&mut JobMessage, &mut Asked);
        let bends: [Bend; 18] = [
            |_, _| {},
            |job, _| job.job_type = "later".parse().unwrap(),
            |job, _| job.body = "{ }".into(),
            |job, _| job.content_type = None,
            |job, _| job.request.method = "PUT".into(),
            |job, _| job.request.path = "/shout/me".into(),
            |job, _| job.request.query.reverse(),
            |job, _| job.request.query[0].value = "b\u{0}".into(),
            // The same texts, cut elsewhere.
            |job, _| job.request.query = vec![Pair::new("ab", ""), Pair::new("c", "")],
            |job, _| job.request.headers = job.request.query.drain(..).collect(),
            |job, _| job.request.headers[0].value = "text/html".into(),
            |_, asked| asked.tier = Some(Tier::Normal),
            |_, asked| asked.deadline = Some(AskedTime::Within(7)),
            |_, asked| asked.deadline = Some(AskedTime::At(7)),
            |_, asked| asked.delay = Some(AskedTime::At(7)),
            |_, asked| asked.callback = callback("https://a.example/", ""),
            |_, asked| asked.callback = callback("https://b.example/", ""),
            |_, asked| asked.callback = callback("https://a.example/", "job.failed"),
        ];
        let prints = bends.map(|bend| {
            let (mut job, mut asked) = (job(), Asked::default());
            bend(&mut job, &mut asked);
            fingerprint(&job, &asked)
        });
        let distinct: std::collections::BTreeSet<_> = prints.iter().collect();
        assert_eq!(distinct.len(), prints.len());
    }
}
