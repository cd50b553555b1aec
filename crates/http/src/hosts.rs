//! Refuses what browsers request of hosts that the hub is not.
//!
//! A page can make its own name resolve to the hub's address, and is then of the same origin as the
//! hub for the browser. What gives it away is the name in `Host`. Other programs are let through:
//! they reach the hub by themselves and write into `Host` what they like.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{ACCEPT_LANGUAGE, HOST, ORIGIN, USER_AGENT};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue};

/// The names that browsers may ask for besides IP addresses and `localhost`; `None` for any.
#[derive(Debug)]
pub(crate) struct Hosts(pub(crate) Option<Vec<String>>);

impl Hosts {
    /// Whether a request comes from a browser that looks for another host.
    pub(crate) fn refuse(&self, request: &Request) -> bool {
        let Some(names) = &self.0 else { return false };
        if !is_from_browser(request.headers()) {
            return false;
        }
        let in_header =
            || request.headers().get(HOST).map(|host| host.to_str().unwrap_or_default());
        let host = request.uri().authority().map(Authority::as_str).or_else(in_header);
        !host.is_none_or(|host| is_known(host, names))
    }
}

/// Every browser sends one of these, and no page can make it leave all of them out.
fn is_from_browser(headers: &HeaderMap) -> bool {
    let user_agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    user_agent.starts_with(b"Mozilla/")
        || [ACCEPT_LANGUAGE, ORIGIN].iter().any(|name| headers.contains_key(name))
        || headers.contains_key("sec-fetch-site")
}

fn is_known(authority: &str, names: &[String]) -> bool {
    if let Some(v6) = authority.strip_prefix('[') {
        return v6.split_once(']').is_some_and(|(ip, _)| ip.parse::<IpAddr>().is_ok());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_ascii_lowercase();
    host.parse::<IpAddr>().is_ok()
        || host == "localhost"
        || host.ends_with(".localhost")
        || names.contains(&host)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(authority: &str, expected: bool) {
        assert_eq!(is_known(authority, &["hub.example".to_owned()]), expected, "{authority}");
    }

    #[test]
    fn addresses_localhost_and_given_names_are_known() {
        for authority in ["127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "[::1]", "10.0.0.7:80"] {
            check(authority, true);
        }
        for authority in ["localhost", "LOCALHOST:8080", "app.localhost:1", "Hub.Example:443"] {
            check(authority, true);
        }
        for authority in ["evil.example", "127.0.0.1.evil.example:80", "localhost.evil", "", "[x]"]
        {
            check(authority, false);
        }
    }
}
