//! `GET /v1/jobs`: the jobs that are kept, newest first.

use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use serde::Serialize;
use tidegate_contract::{JobId, Status, Tenant};
use tidegate_store::Listing;
use utoipa::ToSchema;

use crate::auth::Principal;
use crate::dead_letters::filter::time;
use crate::problem::{ApiError, clip};
use crate::query;
use crate::state::AppState;
use crate::status::{self, StatusBody};

/// Jobs of one answer, if nothing is said, and at most.
const LIMIT: u32 = 50;
const MOST: u32 = 200;
/// What cursors of this version begin with.
const VERSION: &str = "v1.";

/// A page of jobs.
#[derive(Serialize, ToSchema)]
#[schema(as = JobList)]
pub struct ListBody<'a> {
    /// As their statuses, without what is large or takes a look elsewhere: `progress`, `result`, `resultUrl`, `error`,
    /// `deadLetter`, `retryOf`, `retriedAs`.
    jobs: Vec<StatusBody<'a>>,
    /// Where the list goes on, as `cursor`; null at its end.
    next: Option<String>,
}

/// `GET /v1/jobs`.
#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "jobs",
    operation_id = "listJobs",
    summary = "Jobs that are kept, newest first",
    description = "Those of the caller's tenant, as they stand in the status store. One answer comes of a look at 10,000 \
        rows at most: a page may be short, or empty, while `next` is not null. `since` and `until` bound the look itself.",
    params(
        ("status" = Option<String>, Query, description = "With this status, or one of these: `failed,dead-lettered`"),
        ("type" = Option<String>, Query, description = "Of this job type"),
        ("tier" = Option<String>, Query, description = "`high`, `normal` or `low`"),
        ("since" = Option<String>, Query, description = "Accepted at this time or later, RFC 3339 in UTC"),
        ("until" = Option<String>, Query, description = "Accepted before this time, RFC 3339 in UTC"),
        ("limit" = Option<u32>, Query, description = "1 to 200 jobs, 50 if nothing is said"),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before, with the same filter"),
    ),
    responses(
        (status = 200, description = "A page", body = ListBody),
        (status = 400, description = "Malformed query", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key", body = crate::docs::Problem, content_type = "application/problem+json"),
        (status = 503, description = "The store is away", body = crate::docs::Problem, content_type = "application/problem+json"),
    ),
    security(("bearer" = []), ("apiKey" = []), ()),
)]
pub async fn list(
    state: Data<AppState>,
    req: HttpRequest,
    principal: Principal,
) -> Result<HttpResponse, ApiError> {
    let malformed = |why: String| ApiError::MalformedQuery(clip(&why));
    let pairs = query::pairs(&req)?;
    let asked = read(pairs, principal.tenant).map_err(malformed)?;
    let begun = std::time::Instant::now();
    let listed = state.engine.list(asked).await;
    let label = match &listed {
        Ok(_) => "ok",
        Err(error) if error.is_transient() => "unavailable",
        Err(_) => "failed",
    };
    state.metrics.store_call("list", label, begun.elapsed());
    let listed = listed.map_err(|error| {
        tracing::warn!(%error, "jobs not listed");
        ApiError::StoreUnavailable("jobs cannot be listed now".to_owned())
    })?;
    let jobs = listed.rows.iter();
    let body = ListBody {
        jobs: jobs.map(|row| status::shown(&state, row, false)).collect(),
        next: listed.next.map(cursor),
    };
    Ok(HttpResponse::Ok()
        .insert_header(("Cache-Control", "no-store"))
        .json(body))
}

/// What a query asks for.
///
/// # Errors
/// One sentence that names the parameter and what it may be.
fn read(pairs: Vec<(String, String)>, tenant: Tenant) -> Result<Listing, String> {
    let mut listing = Listing::of(tenant, LIMIT);
    for (name, value) in pairs {
        match name.as_str() {
            "status" => {
                for word in value.split(',') {
                    listing.statuses.push(status_of(word)?);
                }
            }
            "type" => {
                let job_type = value.parse();
                let job_type = job_type.map_err(|error| format!("type is malformed: {error}"))?;
                listing.job_type = Some(job_type);
            }
            "tier" => {
                let tier = value.parse();
                listing.tier = Some(tier.map_err(|error| format!("tier `{value}` is {error}"))?);
            }
            "since" => listing.since = Some(time("since", &value)?),
            "until" => listing.until = Some(time("until", &value)?),
            "limit" => {
                let limit = value.parse().ok().filter(|n| (1..=MOST).contains(n));
                listing.limit = limit.ok_or_else(|| format!("limit must be from 1 to {MOST}"))?;
            }
            "cursor" => listing.before = Some(before(&value)?),
            _ => return Err(format!("`{name}` is not known")),
        }
    }
    Ok(listing)
}

fn status_of(word: &str) -> Result<Status, String> {
    word.parse().map_err(|_| {
        let known: Vec<_> = Status::ALL.iter().map(|status| status.as_str()).collect();
        format!(
            "status `{word}` is none: allowed are {}, with commas between them",
            known.join(", ")
        )
    })
}

/// As it stands in answers. Nobody is to read it: what it says may be another thing in another version.
fn cursor(before: JobId) -> String {
    format!("{VERSION}{before}")
}

fn before(cursor: &str) -> Result<JobId, String> {
    let id = cursor.strip_prefix(VERSION).and_then(|id| id.parse().ok());
    id.ok_or_else(|| "cursor is malformed: give one that an answer had".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(query: &[(&str, &str)]) -> Result<Listing, String> {
        let pairs = query
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        read(pairs.collect(), "shop".parse().unwrap())
    }

    #[test]
    fn a_query_is_read_and_the_tenant_is_the_callers() {
        let id = JobId::generate();
        let found = asked(&[
            ("status", "failed,dead-lettered"),
            ("status", "expired"),
            ("type", "echo"),
            ("tier", "low"),
            ("since", "2025-01-31T09:30:00Z"),
            ("until", "2025-01-31T09:30:01.5Z"),
            ("limit", "200"),
            ("cursor", &cursor(id)),
        ]);
        let expected = Listing {
            statuses: vec![Status::Failed, Status::DeadLettered, Status::Expired],
            job_type: "echo".parse().ok(),
            tier: "low".parse().ok(),
            since: Some(1_738_315_800_000),
            until: Some(1_738_315_801_500),
            before: Some(id),
            ..Listing::of("shop".parse().unwrap(), 200)
        };
        assert_eq!(found, Ok(expected));
        assert_eq!(asked(&[]), Ok(Listing::of("shop".parse().unwrap(), LIMIT)));
    }

    #[test]
    fn what_is_malformed_is_named_with_what_is_allowed() {
        for (name, value, words) in [
            (
                "status",
                "done",
                "status `done` is none: allowed are pending",
            ),
            ("status", "failed,", "status `` is none"),
            ("type", "NO NAME", "type is malformed: "),
            (
                "tier",
                "urgent",
                "tier `urgent` is not a tier: high, normal or low",
            ),
            (
                "since",
                "yesterday",
                "since is malformed: allowed is RFC 3339",
            ),
            ("until", "1738315800", "until is malformed"),
            ("limit", "0", "limit must be from 1 to 200"),
            ("limit", "201", "limit must be from 1 to 200"),
            ("limit", "-1", "limit must be from 1 to 200"),
            ("cursor", "v2.x", "cursor is malformed"),
            ("tenant", "bank", "`tenant` is not known"),
        ] {
            let said = asked(&[(name, value)]).unwrap_err();
            assert!(said.contains(words), "{name}={value}: {said}");
        }
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(name in "status|type|tier|since|until|limit|cursor", value in "\\PC*") {
            let _ = asked(&[(&name, &value)]);
        }
    }
}
