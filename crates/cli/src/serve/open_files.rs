//! Open files: each connection is one, and the operating system allows so many.

/// Raises the limit of open files as far as the process may, and gives the number of connections
/// that fit, at most `connections_max`.
pub(super) fn make_room(connections_max: u64) -> u64 {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => fitting(connections_max, limit),
        // Systems without such a limit.
        Err(_) => connections_max,
    }
}

fn fitting(connections_max: u64, limit: u64) -> u64 {
    connections_max.min(limit.saturating_sub(RESERVED).max(1))
}

/// Files for everything but connections: standard streams, listeners, pollers, connections that are
/// being turned away.
const RESERVED: u64 = 128;

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn some_files_are_kept_for_other_things_than_connections() {
        for (connections_max, limit, expected) in
            [(100, 1_024, 100), (1_000, 1_024, 896), (10, 64, 1), (5, u64::MAX, 5)]
        {
            assert_eq!(fitting(connections_max, limit), expected);
        }
    }
}
