//! The orders: made up, but the same bytes on every machine and for ever.
//!
//! The numbers come from a generator of our own (SplitMix64, Steele, Lea and Flood 2014), because a library's may
//! change between versions.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// How many orders there are.
pub const ORDERS: u64 = 120_000;
/// The first year of the two that the orders lie in.
pub const FIRST_YEAR: u16 = 2024;
/// Where they are sold.
pub const REGIONS: [&str; 5] = ["north", "south", "east", "west", "overseas"];
/// What is sold, with its list price in cents.
pub const PRODUCTS: [(&str, u64); 8] = [
    ("anchor", 12_900),
    ("buoy", 4_550),
    ("compass", 7_995),
    ("lantern", 3_400),
    ("logbook", 1_250),
    ("oilskin", 8_900),
    ("rope", 2_199),
    ("sextant", 45_000),
];

const SEED: u64 = 0x7469_6465_6761_7465;
const FILE: &str = "orders-v1.csv";

/// The orders could not be written.
#[derive(Debug, thiserror::Error)]
#[error("orders cannot be written to {}: {source}", path.display())]
pub struct GenerateError {
    path: PathBuf,
    source: io::Error,
}

/// The file of orders in `directory`. Made first if it is not there: under another name and then renamed, so that
/// nobody ever sees half of it, and two processes at once do no harm.
pub fn ensure(directory: &Path) -> Result<PathBuf, GenerateError> {
    let path = directory.join(FILE);
    let failed = |source| GenerateError {
        path: path.clone(),
        source,
    };
    if path.is_file() {
        return Ok(path);
    }
    fs::create_dir_all(directory).map_err(failed)?;
    // The process and a counter: two threads of one process do not share it either.
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let draft = directory.join(format!(".{FILE}.{}.{number}", std::process::id()));
    let written = write_file(&draft).and_then(|()| fs::rename(&draft, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&draft);
        return Err(failed(error));
    }
    Ok(path)
}

fn write_file(path: &Path) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, File::create(path)?);
    write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

/// Writes the orders: a heading, then one line an order, by date.
pub fn write(out: &mut impl Write) -> io::Result<()> {
    let mut numbers = SplitMix64(SEED);
    writeln!(
        out,
        "order_id,date,region,product,quantity,unit_price_cents"
    )?;
    let days = calendar();
    for order in 0..ORDERS {
        // Evenly over the days, so that the file is in order of time like a real ledger.
        let day = (order * days.len() as u64 / ORDERS) as usize;
        let (year, month, date) = days.get(day).copied().unwrap_or((FIRST_YEAR, 1, 1));
        let region = REGIONS[numbers.below(REGIONS.len() as u64) as usize];
        let (product, list_price) = PRODUCTS[numbers.below(PRODUCTS.len() as u64) as usize];
        let quantity = 1 + numbers.below(12);
        // Up to 15 % off the list price.
        let price = list_price * (100 - numbers.below(16)) / 100;
        writeln!(
            out,
            "{},{year:04}-{month:02}-{date:02},{region},{product},{quantity},{price}",
            100_000 + order
        )?;
    }
    out.flush()
}

/// Every day of the two years.
fn calendar() -> Vec<(u16, u8, u8)> {
    let mut days = Vec::with_capacity(731);
    for year in [FIRST_YEAR, FIRST_YEAR + 1] {
        for month in 1..=12 {
            for day in 1..=crate::query::days_in(year, month) {
                days.push((year, month, day));
            }
        }
    }
    days
}

struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is small: the bias of a remainder does not matter for made-up orders.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a, 64 bits.
    fn fingerprint(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    #[test]
    fn splitmix_gives_its_published_numbers() {
        let mut numbers = SplitMix64(1_234_567);
        assert_eq!(numbers.next(), 6_457_827_717_110_365_317);
        assert_eq!(numbers.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn the_orders_never_change() {
        let mut bytes = Vec::new();
        write(&mut bytes).unwrap();
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines as u64, ORDERS + 1);
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.lines().nth(1).unwrap().contains(",2024-01-01,"));
        assert!(text.lines().last().unwrap().contains(",2025-12-31,"));
        assert_eq!(
            fingerprint(&bytes),
            FINGERPRINT,
            "found {:#x}",
            fingerprint(&bytes)
        );
    }

    const FINGERPRINT: u64 = 0x5984_3e73_2b39_53ff;

    #[test]
    fn many_at_once_make_one_file_and_leave_no_drafts() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("new/orders");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| ensure(&inside).unwrap());
            }
        });
        let before = fs::metadata(inside.join(FILE)).unwrap().modified().unwrap();
        let path = ensure(&inside).unwrap();
        assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), before);
        assert_eq!(fs::read_dir(&inside).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = ensure(&file.path().join("x")).unwrap_err().to_string();
        assert!(
            error.starts_with("orders cannot be written to /"),
            "{error}"
        );
    }
}
