use std::time::Duration;

use super::{
    parse_address, parse_bytes, parse_count, parse_duration, parse_origins, show_bytes,
    show_duration,
};

/// Reads `text` and compares what was read, or the complaint, as text.
#[track_caller]
fn check<T: ToString>(read: Result<T, String>, expected: Result<&str, &str>) {
    let read = read.map(|value| value.to_string());
    assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned));
}

#[test]
fn durations_are_read_and_written_in_the_largest_exact_unit() {
    for (text, expected) in [
        ("0", Ok("0s")),
        ("0s", Ok("0s")),
        ("1500ms", Ok("1500ms")),
        ("2000ms", Ok("2s")),
        ("90s", Ok("90s")),
        ("1m30s", Ok("90s")),
        ("1h 30m", Ok("90m")),
        ("24h", Ok("24h")),
        ("1d", Ok("24h")),
        ("7d", Ok("7d")),
        ("15", Err("the unit is missing")),
        ("1.5s", Err("`.` after the number")),
        ("-1s", Err("there is no number where one should be")),
        ("15sec", Err("`sec` is not a unit")),
        ("1h30", Err("the unit is missing")),
        ("", Err("there is no value")),
        ("99999999999999999999s", Err("the number is too large")),
        ("999999999999d", Err("the number is too large")),
    ] {
        check(parse_duration(text).map(show_duration), expected);
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same_value() {
    for ms in [0, 1, 999, 1_000, 61_000, 86_400_000, 172_800_000, u64::from(u32::MAX)] {
        let duration = Duration::from_millis(ms);
        assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
    }
    for bytes in [0, 1, 1_000, 1_024, 1_500, 64 << 20, 3 << 30, 1 << 40] {
        assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
    }
}

#[test]
fn sizes_are_read_in_powers_of_1024_and_of_1000() {
    for (text, expected) in [
        ("0", Ok("0")),
        ("65536", Ok("65536")),
        ("64KiB", Ok("65536")),
        ("64 kib", Ok("65536")),
        ("64MiB", Ok("67108864")),
        ("64MB", Ok("64000000")),
        ("10B", Ok("10")),
        ("64M", Err("`M` is not a unit")),
        ("64MiB2", Err("`2` after the unit")),
        ("1.5MiB", Err("`.` after the number")),
        ("MiB", Err("there is no number where one should be")),
        ("", Err("there is no value")),
        ("99999999TiB", Err("the number is too large")),
    ] {
        check(parse_bytes(text), expected);
    }
}

#[test]
fn counts_are_whole_numbers() {
    for (text, expected) in [
        ("12", Ok("12")),
        ("", Err("there is no value")),
        ("-3", Err("this is not a whole number")),
        ("1e3", Err("this is not a whole number")),
        ("99999999999999999999", Err("the number is too large")),
    ] {
        check(parse_count(text), expected);
    }
}

#[test]
fn addresses_have_a_port() {
    for (text, expected) in [
        ("127.0.0.1:8080", Ok("127.0.0.1:8080")),
        ("[::1]:0", Ok("[::1]:0")),
        ("localhost:81", Ok("127.0.0.1:81")),
        ("localhost:x", Err("`x` is not a port")),
        (":80", Err("there is no address before the port; every address is 0.0.0.0:80")),
        ("8080", Err("there is no address; this machine alone is 127.0.0.1:8080")),
        ("127.0.0.1", Err("there is no port")),
        ("example.com:80", Err("this is not an IP address with a port")),
    ] {
        check(parse_address(text), expected);
    }
}

#[test]
fn origins_are_exactly_what_a_browser_sends() {
    for (text, expected) in [
        ("", Ok("")),
        ("*", Ok("*")),
        ("https://a.example", Ok("https://a.example")),
        ("https://a.example, http://localhost:3000", Ok("https://a.example http://localhost:3000")),
        ("https://a.example,https://a.example", Ok("https://a.example")),
        ("*,https://a.example", Err("`*` already means every origin, so it stands alone")),
        ("a.example", Err("`a.example` has no scheme; an origin is https://app.example.com")),
        (
            "https://a.example/",
            Err(
                "`https://a.example/` has a path; an origin ends after the host: https://a.example",
            ),
        ),
        (
            "https://A.example",
            Err("`https://A.example` has capitals; browsers send https://a.example"),
        ),
        ("https://a.example:443", Err("browsers leave :443 out: write https://a.example")),
        (
            "https://*.example",
            Err("`https://*.example` is not an origin; write scheme, host and port alone"),
        ),
    ] {
        check(parse_origins(text.split(',')).map(|origins| origins.join(" ")), expected);
    }
}
