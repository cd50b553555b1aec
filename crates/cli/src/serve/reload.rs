//! Reading the configuration again while the hub serves: all of it is put into effect, or nothing.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::ArgMatches;
use tidings::{ConnectionFilter, ExpiryReason, Hub};
use tidings_access::Access;
use tidings_http::{CurrentLimits, ReloadCounts, Tls};
use tracing::{error, info, warn};

use crate::failure::Failure;
use crate::options::serve_options;
use crate::serve::process_log::LogLevel;
use crate::serve::{access, encryption, http_limits, make_room, size};
use crate::settings::Settings;
use crate::settings::contradictions::contradictions;
use crate::settings::load::{load_on, usage};
use crate::trust::Trust;

/// Where the configuration comes from, and what of it is in effect.
pub(super) struct Configuration {
    /// The command line.
    pub(super) matches: ArgMatches,
    /// The address of the sockets that were passed to the process.
    pub(super) passed: Option<SocketAddr>,
    /// What is in effect.
    pub(super) settings: RefCell<Settings>,
    pub(super) log_level: LogLevel,
    /// The limits of clients in effect.
    pub(super) limits: CurrentLimits,
    pub(super) counts: Arc<ReloadCounts>,
}

/// What a configuration is put into effect on.
pub(super) struct Running<'a> {
    pub(super) hub: &'a Hub,
    pub(super) access: &'a Access,
    pub(super) tls: Option<&'a Tls>,
}

impl Configuration {
    /// Reads everything again, puts it into effect, and tells what came of it.
    pub(super) async fn reload(&self, running: &Running<'_>) {
        let outcome = self.try_reload(running).await;
        self.counts.count(outcome.is_ok());
        match outcome {
            Ok(waiting) => {
                info!("the configuration was read again, and is in effect");
                if !waiting.is_empty() {
                    warn!("changed, but in effect only after a restart: {}", waiting.join(", "));
                }
            }
            Err(failure) => error!(
                "the configuration was read again and is not used; everything stays as it was: \
                 {failure}"
            ),
        }
    }

    /// Gives the options that have changed and need a restart.
    async fn try_reload(&self, running: &Running<'_>) -> Result<Vec<&'static str>, Failure> {
        let loaded = load_on(&self.matches, self.passed)?;
        let mut next = loaded.settings;
        let waiting = keep_what_needs_a_restart(&self.settings.borrow(), &mut next);
        // With what stays as it was, it is another configuration than the one that was checked.
        let faults = contradictions(&next);
        if !faults.is_empty() {
            return Err(usage(faults));
        }
        let trust = Trust::load(&next).map_err(usage)?;
        let authorities = access::options(&next, &trust)?.authorities;
        let authorities = match authorities.is_empty() {
            true => None,
            false => Some(access::prepare(running.access, authorities).await?),
        };
        if let Some(tls) = running.tls {
            encryption::reload(tls)?;
        }
        // Nothing fails from here on.
        if let Some(authorities) = authorities {
            let withdrawn = ConnectionFilter::Keys(running.access.adopt(authorities).into());
            let closed = running.hub.close_connections(&withdrawn, ExpiryReason::Revoked).await;
            if closed > 0 {
                info!("{closed} streams ended that were opened by keys that are not trusted now");
            }
        }
        make_room(&mut next);
        running.hub.set_connections_max(size(next.serve.max_connections));
        running.hub.set_event_bytes_max(size(next.serve.max_event_bytes));
        self.limits.change(http_limits(&next.serve));
        self.log_level.change(next.serve.log_level);
        for warning in loaded.warnings.iter().chain(&trust.warnings) {
            warn!("{warning}");
        }
        self.settings.replace(next);
        Ok(waiting)
    }
}

/// Puts the values of `now` into `next` where only a restart changes them, and names those that would
/// have changed.
fn keep_what_needs_a_restart(now: &Settings, next: &mut Settings) -> Vec<&'static str> {
    // A hub that asks nobody has let in everybody, and has no idea whom to send away.
    let asks_as_before = now.serve.has_keys() == next.serve.has_keys();
    let mut waiting = Vec::new();
    for row in serve_options().filter(|row| row.key().is_some()) {
        let is_reloaded = row.is_reloaded() && (asks_as_before || !row.is_about_keys());
        if is_reloaded || row.kind.is_same(&now.serve, &next.serve) {
            continue;
        }
        row.kind.copy(&now.serve, &mut next.serve);
        next.set_origin(row.name, now.origin(row.name).clone());
        waiting.push(row.name);
    }
    waiting
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::merge;

    fn settings(given: &[(&str, &str)]) -> Settings {
        let flags = |name: &str| {
            given.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        merge(&flags, &|_| None, None, 1).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn check(now: &[(&str, &str)], next: &[(&str, &str)], waiting: &[&str]) -> Settings {
        let mut next = settings(next);
        assert_eq!(keep_what_needs_a_restart(&settings(now), &mut next), waiting);
        next
    }

    #[test]
    fn what_needs_a_restart_stays_and_is_named() {
        let told = ("connection-webhook", "https://app.example/news");
        let next = check(
            &[told, ("data", "/a"), ("max-selectors", "5"), ("webhook-secret", &"a".repeat(64))],
            &[told, ("data", "/b"), ("max-selectors", "6"), ("listen", "127.0.0.1:1")],
            &["listen", "webhook-secret", "data"],
        );
        assert_eq!((next.serve.data.to_str(), next.serve.max_selectors), (Some("/a"), 6));
        assert_eq!(next.serve.listen.port(), 8080);
        assert!(next.serve.webhook_secret.is_some());
    }

    #[test]
    fn keys_change_but_not_whether_there_are_any() {
        let [one, two] = ["1", "2"].map(|digit| digit.repeat(64));
        check(&[("key", &one)], &[("key", &two), ("audience", "hub")], &[]);
        let next = check(&[("key", &one)], &[], &["key"]);
        assert!(next.serve.has_keys());
        let next = check(&[], &[("key", &one), ("audience", "hub")], &["key", "audience"]);
        assert!(!next.serve.has_keys());
    }

    #[test]
    fn every_option_can_be_kept() {
        for row in serve_options().filter(|row| row.key().is_some()) {
            let now = settings(&[]);
            let mut next = now.serve.clone();
            row.kind.copy(&now.serve, &mut next);
            assert!(row.kind.is_same(&now.serve, &next), "{}", row.name);
        }
    }
}
