//! What a request brings along to say who it is from, and where it may stand.
//!
//! In order: `Authorization: Bearer` (RFC 6750, section 2.1), the query parameter `access_token`
//! (section 2.3), the cookie. What stands higher counts, and nothing below it is looked at. A place
//! that is filled twice is refused rather than chosen from.

use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};

use crate::HttpOptions;
use crate::cors::is_listed;
use crate::problem::{Kind, Problem};
use crate::query::{pairs, text};

/// A token and where it stood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) token: String,
    pub(crate) place: Place,
}

/// Where a token may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Header,
    Query,
    /// Sent by browsers for whatever page asks for it.
    Cookie,
}

/// Finds the token of a request, if it has one.
///
/// # Errors
///
/// A place is filled twice, or what is there cannot be a token.
pub(crate) fn find(head: &Parts, options: &HttpOptions) -> Result<Option<Credential>, Problem> {
    if let Some(token) = bearer(&head.headers)? {
        return Ok(Some(Credential { token, place: Place::Header }));
    }
    // In a URL it is written down in many places; where a header can be set, nothing asks for it.
    if options.query_token
        && head.method.is_safe()
        && let Some(token) = in_query(head.uri.query().unwrap_or_default())?
    {
        return Ok(Some(Credential { token, place: Place::Query }));
    }
    let token = in_cookies(&head.headers, &options.token_cookie)?;
    Ok(token.map(|token| Credential { token, place: Place::Cookie }))
}

/// Refuses a request that changes something and whose only credential is a cookie, unless it says
/// that it comes from a page that may do so.
pub(crate) fn refuse_forged(headers: &HeaderMap, cors_origins: &[String]) -> Result<(), Problem> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_own = |origin: &str| {
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        authority.is_some() && authority == header(HOST.as_str())
    };
    let may = match (header(ORIGIN.as_str()), header("sec-fetch-site")) {
        // `*` is an invitation to pages that send no cookies.
        (Some(origin), _) => {
            is_own(origin)
                || (origin != "*" && is_listed(cors_origins, origin) && !is_open(cors_origins))
        }
        (None, site) => site == Some("same-origin"),
    };
    if may {
        return Ok(());
    }
    let detail = "Send the token as Authorization: Bearer, or add the page's origin to cors_origins: \
                  a cookie alone does not say that the page may do this.";
    Err(Problem::new(Kind::CrossSite, detail))
}

fn is_open(cors_origins: &[String]) -> bool {
    cors_origins.iter().any(|origin| origin == "*")
}

/// The token of the header. Other schemes are for those who stand before the hub.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ambiguous("Send one Authorization header."));
    }
    let bytes = value.as_bytes();
    let scheme_bytes = bytes.iter().position(|&byte| byte == b' ').unwrap_or(bytes.len());
    let (scheme, token) = bytes.split_at(scheme_bytes);
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    match std::str::from_utf8(token.trim_ascii()) {
        Ok(token) if !token.is_empty() => Ok(Some(token.to_owned())),
        _ => Err(empty()),
    }
}

fn in_query(query: &str) -> Result<Option<String>, Problem> {
    let mut found = None;
    for (name, value) in pairs(query.as_bytes()) {
        if name != b"access_token" {
            continue;
        }
        let value = text(value).ok().filter(|value| !value.is_empty()).ok_or_else(empty)?;
        if found.replace(value).is_some() {
            return Err(ambiguous("Give the parameter access_token once."));
        }
    }
    Ok(found)
}

/// The value of the cookie (RFC 6265, section 4.2). Pages of a neighbouring name can add one of the
/// same name, and which of them is meant cannot be known.
fn in_cookies(headers: &HeaderMap, name: &str) -> Result<Option<String>, Problem> {
    if name.is_empty() {
        return Ok(None);
    }
    let mut found: Option<&str> = None;
    let values = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    for pair in values.flat_map(|value| value.split(|&byte| byte == b';')) {
        let Ok(pair) = std::str::from_utf8(pair.trim_ascii()) else { continue };
        let Some((_, value)) = pair.split_once('=').filter(|(given, _)| *given == name) else {
            continue;
        };
        let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value);
        if found.is_some_and(|found| found != value) {
            return Err(ambiguous(&format!("Send one cookie named {name}.")));
        }
        found = Some(value);
    }
    // An empty one is what is left of a session that ended.
    Ok(found.filter(|value| !value.is_empty()).map(str::to_owned))
}

fn ambiguous(detail: &str) -> Problem {
    Problem::new(Kind::AmbiguousCredentials, detail)
}

fn empty() -> Problem {
    Problem::new(Kind::InvalidToken, "Send a token: there is none where it should stand.")
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn head(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn check(method: &str, uri: &str, headers: &[(&str, &str)], expected: Result<&str, Kind>) {
        let found = find(&head(method, uri, headers), &HttpOptions::default());
        let found = found.map_err(|problem| problem.kind()).map(|it| match it {
            Some(Credential { token, place }) => format!("{place:?} {token}"),
            None => "none".to_owned(),
        });
        assert_eq!(found.as_deref().map_err(|kind| *kind), expected, "{method} {uri} {headers:?}");
    }

    #[test]
    fn what_stands_higher_counts() {
        let cookie = ("cookie", "a=b; tidings_token=C; c=d");
        check("GET", "/events", &[], Ok("none"));
        check("GET", "/events?access_token=Q", &[cookie], Ok("Query Q"));
        check("GET", "/events?access_token=Q", &[("authorization", "bearer H")], Ok("Header H"));
        check("GET", "/events", &[cookie], Ok("Cookie C"));
        check("POST", "/events?access_token=Q", &[cookie], Ok("Cookie C"));
        check("POST", "/events?access_token=Q", &[], Ok("none"));
    }

    #[test]
    fn a_place_that_is_filled_twice_is_refused() {
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer a")];
        check("GET", "/", &twice, Err(Kind::AmbiguousCredentials));
        let basic = [("authorization", "Basic a"), ("authorization", "Bearer a")];
        check("GET", "/", &basic, Err(Kind::AmbiguousCredentials));
        check("GET", "/?access_token=a&access_token=a", &[], Err(Kind::AmbiguousCredentials));
        let cookies = [("cookie", "tidings_token=a"), ("cookie", "tidings_token=b")];
        check("GET", "/", &cookies, Err(Kind::AmbiguousCredentials));
        check("GET", "/", &[("cookie", "tidings_token=a; tidings_token=a")], Ok("Cookie a"));
    }

    #[test]
    fn what_is_no_token_is_refused_or_left_to_others() {
        check("GET", "/", &[("authorization", "Bearer ")], Err(Kind::InvalidToken));
        check("GET", "/", &[("authorization", "Bearer")], Err(Kind::InvalidToken));
        check("GET", "/?access_token=", &[], Err(Kind::InvalidToken));
        check("GET", "/?access_token=%ff", &[], Err(Kind::InvalidToken));
        check("GET", "/", &[("authorization", "Basic dTpw")], Ok("none"));
        check("GET", "/", &[("cookie", "tidings_token=")], Ok("none"));
        check("GET", "/", &[("cookie", "xtidings_token=a; tidings_token ")], Ok("none"));
        check("GET", "/", &[("cookie", r#"tidings_token="a""#)], Ok("Cookie a"));
    }

    #[test]
    fn without_a_name_no_cookie_holds_a_token() {
        let options = HttpOptions { token_cookie: String::new(), ..HttpOptions::default() };
        let found = find(&head("GET", "/", &[("cookie", "=a; tidings_token=b")]), &options);
        assert_eq!(found.map_err(|problem| problem.kind()), Ok(None));
    }

    fn check_forged(headers: &[(&str, &str)], listed: &[&str], expected: bool) {
        let mut all = vec![("host", "hub.example:8080")];
        all.extend(headers);
        let listed: Vec<String> = listed.iter().map(|&origin| origin.to_owned()).collect();
        let may = refuse_forged(&head("POST", "/events", &all).headers, &listed).is_ok();
        assert_eq!(may, expected, "{headers:?} {listed:?}");
    }

    #[test]
    fn a_cookie_counts_for_pages_of_the_hub_and_of_listed_origins() {
        check_forged(&[], &[], false);
        check_forged(&[("origin", "https://hub.example:8080")], &[], true);
        check_forged(&[("origin", "https://hub.example")], &[], false);
        check_forged(&[("origin", "https://app.example")], &["https://app.example"], true);
        check_forged(&[("origin", "https://evil.example")], &["https://app.example"], false);
        check_forged(&[("origin", "https://evil.example")], &["*"], false);
        check_forged(&[("origin", "null")], &[], false);
        check_forged(&[("origin", "*")], &["*"], false);
        check_forged(&[("sec-fetch-site", "same-origin")], &[], true);
        check_forged(&[("sec-fetch-site", "none")], &[], false);
        let both = [("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")];
        check_forged(&both, &[], false);
    }
}
