//! What the process takes, and what it may take; on Linux, elsewhere nothing is said.

use std::fmt;
use std::path::Path;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;

use super::gauge;

pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    if let Some(bytes) = kibibytes(&read("/proc/self/status"), "VmRSS:") {
        let help = "Memory that the process has resident";
        gauge(encoder, "process_resident_memory_bytes", help, bytes as i64)?;
    }
    if let Some(bytes) = memory_limit(&read("/proc/meminfo"), &read("/proc/self/cgroup")) {
        let help = "Memory that the process may use: that of its control group, or of the machine";
        gauge(encoder, "tidings_memory_limit_bytes", help, bytes as i64)?;
    }
    if let Some(seconds) = cpu_seconds(&read("/proc/self/stat")) {
        let metric = ConstCounter::new(seconds);
        let help = "Time that processors spent on the process";
        metric.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            help,
            None,
            metric.metric_type(),
        )?)?;
    }
    Ok(())
}

/// The number of a line such as `VmRSS:   1234 kB`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix(" kB")?.parse().ok().map(|count: u64| count * 1024)
}

/// The least of what the machine has and what the control group, and those it is in, may use.
fn memory_limit(meminfo: &str, control_groups: &str) -> Option<u64> {
    let machine = kibibytes(meminfo, "MemTotal:");
    let group = control_groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
    let limits = Path::new("/sys/fs/cgroup").join(group);
    let limits = limits.ancestors().take_while(|folder| folder.starts_with("/sys/fs/cgroup"));
    let read = |folder: &Path| std::fs::read_to_string(folder.join("memory.max")).ok();
    // A group without a limit says `max`.
    limits.filter_map(read).filter_map(|text| text.trim().parse().ok()).chain(machine).min()
}

/// User and system time, the 14th and 15th field; the second is a name in brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

/// What Linux counts processor time in for programs, on all architectures of today.
const TICKS_PER_SECOND: f64 = 100.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_what_the_kernel_says() {
        let status = "Name:\ttidings\nVmHWM:\t   20 kB\nVmRSS:\t   16404 kB\nThreads:\t4\n";
        assert_eq!(kibibytes(status, "VmRSS:"), Some(16404 * 1024));
        assert_eq!(kibibytes(status, "VmSwap:"), None);
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 900 0 0 0 250 150 0 0 20 0 4 0 100 1 2";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn a_control_group_that_is_not_there_has_no_limit() {
        let limit = memory_limit("MemTotal:  1 kB\nMemFree: 0 kB\n", "0::/no/such/group\n");
        assert_eq!(limit, Some(1024), "no group has less");
    }
}
