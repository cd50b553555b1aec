//! Repeated measurements of one thing.

use std::fmt::{self, Display};

use serde_json::{Value, json};

/// At least one measurement, in ascending order.
#[derive(Debug, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Sorts what was measured.
    ///
    /// # Panics
    ///
    /// If nothing was.
    pub fn new(mut values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "nothing was measured");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The middle one; the upper of two.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The one that this part of all are below, from 0 to 1.
    pub fn quantile(&self, part: f64) -> f64 {
        self.0[((self.0.len() as f64 * part) as usize).min(self.0.len() - 1)]
    }

    /// The lowest.
    pub fn low(&self) -> f64 {
        self.0[0]
    }

    /// The highest.
    pub fn high(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Median, range and number, for a record.
    pub fn to_json(&self) -> Value {
        json!({
            "median": self.median(), "low": self.low(), "high": self.high(), "count": self.0.len(),
        })
    }
}

/// `median (low–high)` with as many digits as mean something.
impl Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.median().abs() {
            100.0.. => 0,
            10.0.. => 1,
            1.0.. => 2,
            _ => 3,
        };
        let text = format!(
            "{:.digits$} ({:.digits$}–{:.digits$})",
            self.median(),
            self.low(),
            self.high()
        );
        f.pad(&text)
    }
}
