//! Adding the orders up.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::query::{Day, Query};

/// Between two looks at whether to go on, in orders.
const CHUNK: u64 = 2_000;

/// The sums of one month, region and product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub orders: u64,
    pub units: u64,
    pub revenue_cents: u64,
}

impl Sums {
    fn add(&mut self, quantity: u64, price: u64) {
        self.orders += 1;
        self.units += quantity;
        self.revenue_cents = self
            .revenue_cents
            .saturating_add(quantity.saturating_mul(price));
    }

    /// The sums of both.
    #[must_use]
    pub fn plus(self, other: Sums) -> Sums {
        Sums {
            orders: self.orders + other.orders,
            units: self.units + other.units,
            revenue_cents: self.revenue_cents.saturating_add(other.revenue_cents),
        }
    }
}

/// What is added up apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Year and month.
    pub month: (u16, u8),
    pub region: String,
    pub product: String,
}

/// A report, complete or so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub rows: BTreeMap<Group, Sums>,
}

impl Report {
    /// Orders in range.
    pub fn orders(&self) -> u64 {
        self.rows.values().map(|sums| sums.orders).sum()
    }

    /// The sums of everything.
    pub fn totals(&self) -> Sums {
        self.rows
            .values()
            .fold(Sums::default(), |all, sums| all.plus(*sums))
    }
}

/// Why there is no report.
#[derive(Debug)]
pub enum Stopped {
    /// Nobody wants it any more.
    Cancelled,
    Unreadable(csv::Error),
}

impl<E: Into<csv::Error>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Stopped::Unreadable(error.into())
    }
}

/// Adds up a file of orders. `tell` gets the share of the file that has been read and the report so far.
pub fn of_file(
    path: &Path,
    query: &Query,
    tell: &mut impl FnMut(f64, &Report),
    cancelled: impl Fn() -> bool,
) -> Result<Report, Stopped> {
    let file = File::open(path).map_err(csv::Error::from)?;
    let bytes = file.metadata().map_err(csv::Error::from)?.len();
    of_reader(
        BufReader::with_capacity(1 << 16, file),
        bytes,
        query,
        tell,
        cancelled,
    )
}

/// The same for any stream of `bytes` bytes.
pub fn of_reader(
    orders: impl Read,
    bytes: u64,
    query: &Query,
    tell: &mut impl FnMut(f64, &Report),
    cancelled: impl Fn() -> bool,
) -> Result<Report, Stopped> {
    let mut reader = csv::Reader::from_reader(orders);
    let mut report = Report::default();
    let mut record = csv::StringRecord::new();
    let mut read = 0u64;
    while reader.read_record(&mut record)? {
        if read.is_multiple_of(CHUNK) {
            if cancelled() {
                return Err(Stopped::Cancelled);
            }
            let position = reader.position().byte();
            tell(position as f64 / bytes.max(1) as f64, &report);
        }
        read += 1;
        let order = Order::of(&record)?;
        if query.contains(order.day) {
            let group = Group {
                month: (order.day.year, order.day.month),
                region: order.region.to_owned(),
                product: order.product.to_owned(),
            };
            let sums = report.rows.entry(group).or_default();
            sums.add(order.quantity, order.price);
        }
    }
    Ok(report)
}

struct Order<'a> {
    day: Day,
    region: &'a str,
    product: &'a str,
    quantity: u64,
    price: u64,
}

impl<'a> Order<'a> {
    /// A line that is no order ends the report: sums that leave something out would be worse than none.
    fn of(record: &'a csv::StringRecord) -> io::Result<Self> {
        let line = record.position().map_or(0, csv::Position::line);
        let bad = move || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("line {line} is no order"),
            )
        };
        let field = |index| record.get(index).ok_or_else(bad);
        Ok(Self {
            day: Day::parse(field(1)?).ok_or_else(bad)?,
            region: field(2)?,
            product: field(3)?,
            quantity: field(4)?.parse().map_err(|_| bad())?,
            price: field(5)?.parse().map_err(|_| bad())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = "order_id,date,region,product,quantity,unit_price_cents\n\
        1,2025-01-01,north,rope,2,100\n\
        2,2025-01-31,north,rope,1,50\n\
        3,2025-02-01,south,buoy,3,10\n";

    fn of(text: &str, range: &str) -> Result<Report, Stopped> {
        let body = format!(r#"{{"reportType":"sales","dateRange":"{range}"}}"#);
        let query = Query::parse(body.as_bytes()).unwrap();
        of_reader(
            text.as_bytes(),
            text.len() as u64,
            &query,
            &mut |_, _| {},
            || false,
        )
    }

    #[test]
    fn orders_in_range_are_added_up_by_group() {
        let report = of(ORDERS, "2025-01").unwrap();
        assert_eq!(report.rows.len(), 1);
        let expected = Sums {
            orders: 2,
            units: 3,
            revenue_cents: 250,
        };
        assert_eq!(report.totals(), expected);
        assert_eq!(of(ORDERS, "2025").unwrap().rows.len(), 2);
        assert_eq!(of(ORDERS, "2019").unwrap(), Report::default());
    }

    #[test]
    fn a_broken_line_is_named() {
        let broken = format!("{ORDERS}4,2025-02-xx,south,buoy,3,10\n");
        let Err(Stopped::Unreadable(error)) = of(&broken, "2025") else {
            panic!("was read");
        };
        assert!(error.to_string().contains("line 5 is no order"), "{error}");
    }

    #[test]
    fn cancellation_is_noticed() {
        let query = Query::parse(br#"{"reportType":"sales","dateRange":"2025"}"#).unwrap();
        let stopped = of_reader(ORDERS.as_bytes(), 1, &query, &mut |_, _| {}, || true);
        assert!(matches!(stopped, Err(Stopped::Cancelled)));
    }
}
