//! What is printed at the end. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::load::{Load, Ran};
use super::pace::Pace;
use super::tally::{Latency, Tally};

/// Figures of one target.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Answered as asked.
    pub answered: u64,
    pub per_second: f64,
    pub latency_ms: Latency,
    /// All others, by kind.
    pub failures: BTreeMap<String, u64>,
}

impl Figures {
    /// Of several runs of the same load.
    pub fn of(runs: &[Ran]) -> Self {
        let mut tally = Tally::default();
        let mut took = Duration::ZERO;
        for run in runs {
            tally.add(&run.tally);
            took += run.took;
        }
        Self {
            answered: tally.count(),
            per_second: tally.count() as f64 / took.as_secs_f64().max(f64::EPSILON),
            latency_ms: tally.latency(),
            failures: tally.failures().clone(),
        }
    }
}

/// A whole measurement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    pub url: String,
    pub mode: &'static str,
    #[serde(rename = "loop")]
    pub pace: &'static str,
    pub concurrency: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    pub seconds: f64,
    pub body_bytes: usize,
    pub gateway: Figures,
    /// The raw two-hop round trip over Kafka, measured in turns with the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Figures>,
}

impl Report {
    pub fn new(url: String, mode: &'static str, load: Load, body_bytes: usize) -> Self {
        let (pace, rate) = match load.pace {
            Pace::Closed => ("closed", None),
            Pace::Open { per_second } => ("open", Some(per_second)),
        };
        Self {
            url,
            mode,
            pace,
            concurrency: load.concurrency,
            rate,
            seconds: load.duration.as_secs_f64(),
            body_bytes,
            gateway: Figures::of(&[]),
            floor: None,
        }
    }

    /// How much longer, and how much more, than the floor: median and throughput.
    pub fn ratios(&self) -> Option<(f64, f64)> {
        let floor = self.floor.as_ref()?;
        Some((
            self.gateway.latency_ms.p50 / floor.latency_ms.p50,
            self.gateway.per_second / floor.per_second,
        ))
    }

    pub fn text(&self) -> String {
        let load = match self.rate {
            Some(rate) => format!("open loop, {rate}/s, at most {} at once", self.concurrency),
            None => format!("closed loop, {} at once", self.concurrency),
        };
        let mut lines = vec![
            format!(
                "{} ({}, {} bytes), {load}, {} s",
                self.url, self.mode, self.body_bytes, self.seconds
            ),
            String::new(),
            row("", ["per second", "p50 ms", "p90", "p99", "p99.9", "max"]),
            figures("gateway", &self.gateway),
        ];
        if let Some(floor) = &self.floor {
            lines.push(figures("floor", floor));
        }
        if let Some((latency, throughput)) = self.ratios() {
            lines.push(String::new());
            lines.push(format!(
                "p50 is {latency:.2} times, throughput {throughput:.2} times that of the raw two-hop round trip"
            ));
        }
        let floor = self.floor.iter().map(|floor| ("floor", floor));
        for (name, of) in [("gateway", &self.gateway)].into_iter().chain(floor) {
            for (kind, count) in &of.failures {
                lines.push(format!("{name}: {count} × {kind}"));
            }
        }
        if self.gateway.failures.is_empty() {
            lines.push("no failures".to_owned());
        }
        lines.join("\n")
    }
}

fn row(name: &str, cells: [&str; 6]) -> String {
    let cells: String = cells.iter().map(|cell| format!("{cell:>12}")).collect();
    format!("{name:<8}{cells}")
}

fn figures(name: &str, figures: &Figures) -> String {
    let latency = &figures.latency_ms;
    let cells = [
        format!("{:.0}", figures.per_second),
        format!("{:.2}", latency.p50),
        format!("{:.2}", latency.p90),
        format!("{:.2}", latency.p99),
        format!("{:.2}", latency.p999),
        format!("{:.2}", latency.max),
    ];
    row(name, cells.each_ref().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(count: u64, each: Duration) -> Ran {
        let mut tally = Tally::default();
        (0..count).for_each(|_| tally.answered(each));
        Ran {
            tally,
            took: Duration::from_secs(2),
        }
    }

    fn report() -> Report {
        let load = Load {
            pace: Pace::Open { per_second: 1000.0 },
            concurrency: 512,
            duration: Duration::from_secs(4),
        };
        let mut report = Report::new("http://h/v1/jobs/echo".to_owned(), "wait", load, 16);
        let runs = [
            ran(1800, Duration::from_millis(3)),
            ran(1800, Duration::from_millis(3)),
        ];
        report.gateway = Figures::of(&runs);
        report.floor = Some(Figures::of(&[ran(2000, Duration::from_millis(2))]));
        report
    }

    #[test]
    fn the_text_has_figures_ratios_and_failures() {
        let mut report = report();
        let text = report.text();
        assert!(
            text.contains("open loop, 1000/s, at most 512 at once, 4 s"),
            "{text}"
        );
        assert!(
            text.contains("p50 is 1.50 times, throughput 0.90 times"),
            "{text}"
        );
        assert!(text.ends_with("no failures"), "{text}");
        report.gateway.failures.insert("429 busy".to_owned(), 7);
        assert!(report.text().contains("gateway: 7 × 429 busy"));
    }

    #[test]
    fn the_json_is_for_scripts() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["loop"], "open");
        assert_eq!(json["gateway"]["perSecond"], 900.0);
        assert_eq!(json["gateway"]["answered"], 3600);
        assert!(json["floor"]["latencyMs"]["p99"].as_f64().unwrap() > 1.9);
    }
}
