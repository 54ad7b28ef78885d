//! The span of an attempt, by the conventions of OpenTelemetry for clients, and what carries the trace on.

use std::collections::HashMap;

use opentelemetry::Context;
use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tidegate_contract::headers::TRACEPARENT;
use tidegate_store::FollowUp;
use tracing::{Span, field, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use url::Url;

use crate::client::{Answer, SendError};
use crate::email::{MailAnswer, MailError};

/// The context of the event that ended the job; empty if it is not known or malformed.
pub(crate) fn parent(follow_up: &FollowUp) -> Context {
    let trace = follow_up.trace.clone();
    let carrier = trace.map(|it| (TRACEPARENT.to_owned(), it));
    let carrier: HashMap<_, _> = carrier.into_iter().collect();
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

/// `POST callback`: one attempt. The path and the query are left out, as they may be secrets.
pub(crate) fn attempt(follow_up: &FollowUp, url: &Url, parent: &Context) -> Span {
    let number = follow_up.number.saturating_add(1);
    let span = info_span!(
        parent: None,
        "callback",
        otel.name = "POST callback",
        otel.kind = "client",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        http.request.method = "POST",
        http.request.resend_count = field::Empty,
        http.response.status_code = field::Empty,
        url.scheme = url.scheme(),
        server.address = url.host_str().unwrap_or_default(),
        server.port = url.port_or_known_default().unwrap_or_default(),
        error.type = field::Empty,
        messaging.message.conversation_id = %follow_up.job,
        tidegate.attempt = number,
    );
    if number > 1 {
        span.record("http.request.resend_count", number - 1);
    }
    // Refused only by a subscriber without the OpenTelemetry layer, where there is nothing to join.
    let _ = span.set_parent(parent.clone());
    span
}

/// `send e-mail`: one attempt. Addresses, and what the server says, which names them, are left out.
pub(crate) fn mail(follow_up: &FollowUp, (host, port): (&str, u16)) -> Span {
    let span = info_span!(
        parent: None,
        "email",
        otel.name = "send e-mail",
        otel.kind = "client",
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
        network.protocol.name = "smtp",
        server.address = host,
        server.port = port,
        error.type = field::Empty,
        messaging.message.conversation_id = %follow_up.job,
        tidegate.attempt = follow_up.number.saturating_add(1),
        tidegate.smtp.reply_code = field::Empty,
    );
    let _ = span.set_parent(parent(follow_up));
    span
}

/// How the attempt to send an e-mail ended.
pub(crate) fn mail_ended(span: &Span, sent: &Result<MailAnswer, MailError>) {
    match sent {
        Ok(answer) => {
            span.record("tidegate.smtp.reply_code", answer.code);
            if answer.code >= 400 {
                failed(span, &answer.code.to_string(), "");
            }
        }
        Err(error) => failed(span, error.kind(), ""),
    }
}

/// The headers that make what the receiver does a part of the trace: below the span, or below what came in where no
/// spans are made.
pub(crate) fn headers(span: &Span, parent: &Context) -> HeaderMap {
    let own = span.context();
    let context = match own.span().span_context().is_valid() {
        true => &own,
        false => parent,
    };
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(context, &mut carrier);
    let texts = carrier.into_iter().filter(|(_, value)| !value.is_empty());
    texts
        .filter_map(|(name, value)| {
            let name = HeaderName::try_from(name).ok()?;
            Some((name, HeaderValue::try_from(value).ok()?))
        })
        .collect()
}

/// How the attempt ended.
pub(crate) fn ended(span: &Span, sent: &Result<Answer, SendError>) {
    match sent {
        Ok(answer) => {
            span.record("http.response.status_code", answer.status);
            if answer.status >= 400 {
                failed(span, &answer.status.to_string(), "");
            }
        }
        Err(error) => failed(span, error.kind(), &error.to_string()),
    }
}

fn failed(span: &Span, kind: &str, description: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", description);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::follow_up;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn without_spans_of_our_own_the_trace_goes_on_as_it_came() {
        let mut taken = follow_up(1, "https://a.example/");
        taken.trace = Some(PARENT.to_owned());
        let parent = parent(&taken);
        let headers = headers(&Span::none(), &parent);
        assert_eq!(headers.get(TRACEPARENT).unwrap(), PARENT);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn without_a_trace_there_is_no_header() {
        let mut taken = follow_up(1, "https://a.example/");
        for trace in [None, Some("nonsense".to_owned())] {
            taken.trace = trace;
            assert!(headers(&Span::none(), &parent(&taken)).is_empty());
        }
    }
}
