//! The quantities that a turn measures.

use std::collections::BTreeMap;

use Better::{Higher, Lower, Neither};

/// What one turn measured, by the key of the metric.
pub type Values = BTreeMap<String, f64>;

pub struct Metric {
    pub key: &'static str,
    /// With its unit.
    pub title: &'static str,
    pub better: Better,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Better {
    Higher,
    Lower,
    /// It is only told.
    Neither,
}

pub const METRICS: &[Metric] = &[
    metric("append_1", "appends/s, 1 waiting publisher", Higher),
    metric("append_1_p99_us", "a commit of 1, p99, µs", Neither),
    metric("append_100", "appends/s, 100 waiting publishers", Higher),
    metric("append_1000", "appends/s, 1,000 waiting publishers", Higher),
    metric("append_1000_p99_us", "a commit of 1,000, p99, µs", Neither),
    metric("scan_us", "scan of 1,000 events from a random id, µs", Lower),
    metric("topics_append_1000", "appends/s, 1,000 waiting publishers, 1,000 topics", Higher),
    metric("replay_us", "replay of one topic among 1,000, µs", Lower),
    metric("trim_ms", "trimming the older half, ms", Lower),
    metric("disk_full_mib", "disk, full, MiB", Neither),
    metric("disk_trimmed_mib", "disk, trimmed, MiB", Lower),
    metric("compact_ms", "compacting after that, ms", Neither),
    metric("disk_compacted_mib", "disk, compacted, MiB", Neither),
    metric("peak_mib", "memory at most, MiB", Neither),
    metric("open_ms", "opening the large log, ms", Lower),
    metric("open_resident_mib", "memory once it is open, MiB", Neither),
    metric("open_replay_us", "first replay of one topic then, µs", Neither),
    metric("open_disk_mib", "disk of the large log, MiB", Neither),
];

const fn metric(key: &'static str, title: &'static str, better: Better) -> Metric {
    Metric { key, title, better }
}
