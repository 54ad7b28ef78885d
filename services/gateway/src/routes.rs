//! Configured routes: an existing API keeps its paths. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_contract::{JobId, JobType, JobTypes, nearest};

use crate::settings::{GatewayError, RouteKind, RouteSettings};

/// Routes that every gateway has: method and pattern.
pub const BUILT_IN: [(&str, &str); 26] = [
    ("POST", "/v1/jobs/{type}"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{id}"),
    ("DELETE", "/v1/jobs/{id}"),
    ("GET", "/v1/jobs/{id}/result"),
    ("GET", "/v1/jobs/{id}/events"),
    ("POST", "/v1/jobs/{id}/cancel"),
    ("POST", "/v1/jobs/{id}/retry"),
    ("GET", "/v1/jobs/{id}/callbacks"),
    ("POST", "/v1/jobs/{id}/callbacks/resend"),
    ("GET", "/v1/callback-endpoints"),
    ("POST", "/v1/callback-endpoints/enable"),
    ("POST", "/v1/callbacks/recover"),
    ("GET", "/v1/dead-letters"),
    ("GET", "/v1/dead-letters/{partition}/{offset}"),
    ("POST", "/v1/dead-letters/redrive"),
    ("GET", "/v1/job-types"),
    ("POST", "/v1/job-types/{type}/pause"),
    ("POST", "/v1/job-types/{type}/resume"),
    ("GET", "/v1/tiers"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/docs/"),
];

/// First segments that belong to Tidegate, now or in a version to come.
const RESERVED: [&str; 8] = [
    "v1",
    "healthz",
    "readyz",
    "metrics",
    "openapi.json",
    "docs",
    "console",
    "problems",
];

/// The routes of the configuration, checked.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// In the order in which they are to be tried.
    resources: Vec<Resource>,
}

/// A path pattern and what its methods do.
#[derive(Clone, Debug)]
pub struct Resource {
    pub pattern: String,
    pub methods: BTreeMap<String, Target>,
}

/// What a configured route does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Submit(JobType),
    Status,
}

impl Resource {
    /// The value of `Allow`.
    pub fn allow(&self) -> String {
        self.methods.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}

impl Routes {
    /// Checks the routes of the configuration against each other, the types and what is built in.
    ///
    /// # Errors
    /// One sentence that names the route and the mend.
    pub fn new(settings: &[RouteSettings], types: &JobTypes) -> Result<Self, GatewayError> {
        // By shape: patterns that match the same paths.
        let mut by_shape: BTreeMap<Vec<Segment>, Resource> = BTreeMap::new();
        for route in settings {
            let refuse =
                |why: String| GatewayError::Settings(format!("route {}: {why}", route.path));
            let (segments, names) = read(&route.path).map_err(refuse)?;
            if let Some(Segment::Literal(first)) = segments.first()
                && RESERVED.contains(&first.as_str())
            {
                return Err(refuse(format!(
                    "/{first} belongs to tidegate itself: choose another path"
                )));
            }
            let (method, target) = target(route, &names, types).map_err(refuse)?;
            let resource = by_shape.entry(segments).or_insert_with(|| Resource {
                pattern: route.path.clone(),
                methods: BTreeMap::new(),
            });
            if resource.pattern != route.path {
                return Err(refuse(format!(
                    "matches the same paths as {}: give the parameters the same names",
                    resource.pattern
                )));
            }
            if resource.methods.insert(method.clone(), target).is_some() {
                return Err(refuse(format!(
                    "{method} is configured twice: leave one out"
                )));
            }
        }
        Ok(Self {
            // A literal sorts before a parameter, so that `/a/new` is tried before `/a/{id}`.
            resources: by_shape.into_values().collect(),
        })
    }

    /// In the order in which they are to be tried.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The types that routes submit, each with its route.
    pub fn types(&self) -> impl Iterator<Item = (&str, &JobType)> {
        self.resources.iter().flat_map(|resource| {
            let targets = resource.methods.values();
            targets.filter_map(|target| match target {
                Target::Submit(job_type) => Some((resource.pattern.as_str(), job_type)),
                Target::Status => None,
            })
        })
    }

    /// Where the status of a job is that came in on a configured route: the first configured status route.
    pub fn status_path(&self, id: JobId) -> Option<String> {
        let status = |r: &&Resource| r.methods.values().any(|t| *t == Target::Status);
        let resource = self.resources.iter().find(status)?;
        Some(resource.pattern.replace("{id}", &id.to_string()))
    }

    /// The known pattern that is most like `path`; one of as many segments, if there is one.
    pub fn nearest(&self, path: &str) -> Option<String> {
        let configured = self.resources.iter().map(|r| r.pattern.as_str());
        let known = BUILT_IN
            .iter()
            .map(|(_, pattern)| *pattern)
            .chain(configured);
        let segments = |path: &str| path.split('/').count();
        let same = known.clone();
        let same = same.filter(|pattern| segments(pattern) == segments(path));
        let found = nearest(path, same).or_else(|| nearest(path, known));
        found.map(str::to_owned)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Literal(String),
    Parameter,
}

/// The segments of a pattern, and the names of its parameters.
fn read(path: &str) -> Result<(Vec<Segment>, BTreeSet<String>), String> {
    let rest = path
        .strip_prefix('/')
        .filter(|rest| !rest.is_empty())
        .ok_or("a path begins with `/` and goes on")?;
    let mut names = BTreeSet::new();
    let mut segments = Vec::new();
    for segment in rest.split('/') {
        let inner = segment.strip_prefix('{').and_then(|s| s.strip_suffix('}'));
        segments.push(match inner {
            Some(name) => {
                let ok = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                if name.is_empty() || !name.bytes().all(ok) || name.as_bytes()[0].is_ascii_digit()
                {
                    return Err(format!(
                        "`{segment}` is no parameter: letters, digits and `_` in braces, such as {{id}}"
                    ));
                }
                if !names.insert(name.to_owned()) {
                    return Err(format!("parameter {segment} comes twice: rename one"));
                }
                Segment::Parameter
            }
            None => {
                let ok = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b);
                if segment.is_empty() || !segment.bytes().all(ok) {
                    return Err(format!(
                        "`{segment}` is no part of a path: use letters, digits and -._~, or a parameter such as {{id}}"
                    ));
                }
                Segment::Literal(segment.to_owned())
            }
        });
    }
    if segments.first() == Some(&Segment::Parameter) {
        return Err("a path may not begin with a parameter: put a fixed part first".to_owned());
    }
    Ok((segments, names))
}

fn target(
    route: &RouteSettings,
    names: &BTreeSet<String>,
    types: &JobTypes,
) -> Result<(String, Target), String> {
    let method = route.method.as_deref().map(str::to_ascii_uppercase);
    match (route.kind, &route.job_type) {
        (RouteKind::Submit, Some(job_type)) => {
            if !types.contains_key(job_type) {
                let hint = nearest(job_type.as_str(), types.keys().map(JobType::as_str))
                    .map_or(String::new(), |name| format!(", the nearest is {name}"));
                return Err(format!("there is no job type {job_type}{hint}"));
            }
            let method = method.unwrap_or_else(|| "POST".to_owned());
            if !["POST", "PUT", "PATCH"].contains(&method.as_str()) {
                return Err(format!("{method} submits nothing: use POST, PUT or PATCH"));
            }
            Ok((method, Target::Submit(job_type.clone())))
        }
        (RouteKind::Submit, None) => Err("a submit route needs a type".to_owned()),
        (RouteKind::Status, Some(_)) => {
            Err("a status route serves every type: leave type out".to_owned())
        }
        (RouteKind::Status, None) => {
            let method = method.unwrap_or_else(|| "GET".to_owned());
            if method != "GET" {
                return Err(format!("{method} tells no status: use GET"));
            }
            if names.len() != 1 || !names.contains("id") {
                return Err("a status route has one parameter, {id}".to_owned());
            }
            Ok((method, Target::Status))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegate_contract::{HandlerSpec, JobTypeSpec};

    fn types() -> JobTypes {
        let spec = JobTypeSpec::new(HandlerSpec::Echo);
        JobTypes::from([("process-report".parse().unwrap(), spec)])
    }

    fn submit(path: &str) -> RouteSettings {
        RouteSettings {
            method: None,
            path: path.to_owned(),
            kind: RouteKind::Submit,
            job_type: "process-report".parse().ok(),
        }
    }

    fn status(path: &str) -> RouteSettings {
        RouteSettings {
            kind: RouteKind::Status,
            job_type: None,
            ..submit(path)
        }
    }

    fn refusal(routes: &[RouteSettings]) -> String {
        Routes::new(routes, &types())
            .err()
            .map(|e| e.to_string())
            .unwrap_or_default()
    }

    #[test]
    fn literals_are_tried_before_parameters() {
        let routes = [
            submit("/reports/{name}"),
            status("/jobs/{id}"),
            submit("/reports/new"),
        ];
        let routes = Routes::new(&routes, &types()).unwrap();
        let order: Vec<_> = routes
            .resources()
            .iter()
            .map(|r| r.pattern.as_str())
            .collect();
        assert_eq!(order, ["/jobs/{id}", "/reports/new", "/reports/{name}"]);
        let id = JobId::generate();
        assert_eq!(routes.status_path(id), Some(format!("/jobs/{id}")));
        assert_eq!(routes.nearest("/job/7").as_deref(), Some("/jobs/{id}"));
        assert_eq!(
            routes.nearest("/v1/job/echo").as_deref(),
            Some("/v1/jobs/{type}")
        );
        assert_eq!(routes.nearest("/v1/job").as_deref(), Some("/v1/jobs"));
    }

    #[test]
    fn what_cannot_be_served_is_refused_in_a_sentence() {
        for (routes, part) in [
            (vec![submit("/v1/jobs/x")], "belongs to tidegate"),
            (vec![submit("/healthz")], "belongs to tidegate"),
            (vec![submit("/{a}/b")], "fixed part first"),
            (vec![submit("/a"), submit("/a")], "configured twice"),
            (vec![submit("/a/{x}"), status("/a/{id}")], "same names"),
            (vec![submit("/a/{x}/{x}")], "comes twice"),
            (vec![submit("/a/{x:.*}")], "no parameter"),
            (vec![submit("/a//b")], "no part of a path"),
            (vec![submit("a")], "begins with"),
            (vec![status("/jobs")], "{id}"),
            (vec![status("/{id}")], "fixed part first"),
        ] {
            let text = refusal(&routes);
            assert!(text.contains(part), "{routes:?}: {text}");
        }
        let mut unknown = submit("/a");
        unknown.job_type = "proces-report".parse().ok();
        assert!(refusal(&[unknown]).contains("the nearest is process-report"));
        let mut method = submit("/a");
        method.method = Some("get".to_owned());
        assert!(refusal(&[method]).contains("POST, PUT or PATCH"));
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(path in "\\PC*") {
            let _ = Routes::new(&[submit(&path)], &types());
        }
    }
}
