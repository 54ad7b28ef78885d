//! The report as JSON or CSV. Pure.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::aggregate::{Report, Sums};
use crate::query::Query;

/// How the client wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Csv,
}

impl Format {
    /// What `Accept` (RFC 9110, 12.5.1) prefers of the two; JSON when it does not matter, or neither is wanted.
    pub fn of_accept(accept: Option<&str>) -> Self {
        let Some(accept) = accept else {
            return Format::Json;
        };
        let csv = quality(accept, "text", "csv");
        let json = quality(accept, "application", "json");
        if csv > json {
            Format::Csv
        } else {
            Format::Json
        }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Csv => "text/csv; charset=utf-8",
        }
    }

    /// The report's bytes.
    pub fn render(self, query: &Query, report: &Report) -> String {
        match self {
            Format::Json => json_report(query, report),
            Format::Csv => csv_report(report),
        }
    }
}

/// The quality of the most specific range that a media type falls under, in thousandths.
fn quality(accept: &str, main: &str, sub: &str) -> u32 {
    let mut best = (0, 0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let specific = match name.split_once('/') {
            Some((m, s)) if m == main && s == sub => 3,
            Some((m, "*")) if m == main => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        let q = parts
            .find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")))
            .map_or(Some(1.0), |q| q.parse::<f64>().ok())
            .filter(|q| (0.0..=1.0).contains(q))
            .unwrap_or(0.0);
        let q = (q * 1000.0) as u32;
        if specific > best.0 {
            best = (specific, q);
        }
    }
    best.1
}

fn json_report(query: &Query, report: &Report) -> String {
    let rows: Vec<Value> = report
        .rows
        .iter()
        .map(|(group, sums)| {
            let mut row = sums_json(*sums);
            row["month"] = month(group.month).into();
            row["region"] = group.region.clone().into();
            row["product"] = group.product.clone().into();
            row
        })
        .collect();
    let document = json!({
        "reportType": "sales",
        "from": query.from.to_string(),
        "to": query.to.to_string(),
        "totals": sums_json(report.totals()),
        "rows": rows,
    });
    document.to_string()
}

/// The sums so far, small enough to go along with progress.
pub fn totals_json(report: &Report) -> String {
    json!({ "totals": sums_json(report.totals()) }).to_string()
}

fn sums_json(sums: Sums) -> Value {
    json!({
        "orders": sums.orders,
        "units": sums.units,
        "revenueCents": sums.revenue_cents,
        "revenue": money(sums.revenue_cents),
    })
}

fn csv_report(report: &Report) -> String {
    let mut text = String::from("month,region,product,orders,units,revenue_cents,revenue\r\n");
    for (group, sums) in &report.rows {
        // Names come from a CSV and may hold anything that a field may.
        let _ = write!(
            text,
            "{},{},{},{},{},{},{}\r\n",
            month(group.month),
            field(&group.region),
            field(&group.product),
            sums.orders,
            sums.units,
            sums.revenue_cents,
            money(sums.revenue_cents)
        );
    }
    text
}

/// A field as RFC 4180 wants it.
fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn month((year, month): (u16, u8)) -> String {
    format!("{year:04}-{month:02}")
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_decides_between_the_two() {
        for (accept, format) in [
            (None, Format::Json),
            (Some("*/*"), Format::Json),
            (Some("text/csv"), Format::Csv),
            (Some("TEXT/CSV; header=present"), Format::Csv),
            (Some("text/*"), Format::Csv),
            (Some("application/json, text/csv;q=0.9"), Format::Json),
            (Some("application/json;q=0.5, text/csv;q=0.9"), Format::Csv),
            (Some("text/csv;q=0, */*"), Format::Json),
            (Some("text/csv, */*;q=0.1"), Format::Csv),
            (Some("image/png"), Format::Json),
            (Some("text/csv;q=x"), Format::Json),
        ] {
            assert_eq!(Format::of_accept(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn money_and_fields_are_written_so_that_others_can_read_them() {
        assert_eq!(money(5), "0.05");
        assert_eq!(money(123_456), "1234.56");
        assert_eq!(field("a\"b,c"), "\"a\"\"b,c\"");
    }
}
