//! Query strings.

use actix_web::HttpRequest;
use actix_web::web::Query;

use crate::problem::{ApiError, clip};

/// The names and values of a request's query, in order and decoded.
///
/// # Errors
/// [`ApiError::MalformedQuery`].
pub fn pairs(req: &HttpRequest) -> Result<Vec<(String, String)>, ApiError> {
    let pairs = Query::<Vec<(String, String)>>::from_query(req.query_string());
    let pairs = pairs.map_err(|error| ApiError::MalformedQuery(clip(&error.to_string())))?;
    Ok(pairs.into_inner())
}
