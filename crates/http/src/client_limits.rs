//! What one client may take: connections, and how fast it may open them and publish.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidings::OnEnd;

use crate::CurrentLimits;
use crate::account::{Accounts, Source};
use crate::places::{Place, Places};
use crate::problem::{Kind, Problem};
use crate::rates::{CurrentRates, Rates, TooFast};

/// Counts what clients have and do, if there are limits for it.
#[derive(Debug)]
pub(crate) struct ClientLimits {
    limits: CurrentLimits,
    accounts: Accounts,
    address_places: Arc<Places>,
    user_places: Arc<Places>,
    connect_rates: CurrentRates,
    publish_rates: CurrentRates,
    refused: [AtomicU64; Limit::ALL.len()],
}

/// The limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Address,
    User,
    ConnectRate,
    PublishRate,
}

impl Limit {
    pub(crate) const ALL: [Self; 4] =
        [Self::Address, Self::User, Self::ConnectRate, Self::PublishRate];

    /// Its name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::User => "user",
            Self::ConnectRate => "connect_rate",
            Self::PublishRate => "publish_rate",
        }
    }
}

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    Address { each_max: usize },
    User { each_max: usize },
    TooFast { wait: Duration },
}

/// The places of a connection, given back when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held([Option<Place>; 2]);

impl ClientLimits {
    pub(crate) fn new(limits: CurrentLimits) -> Self {
        Self {
            limits,
            accounts: Accounts::default(),
            address_places: Arc::default(),
            user_places: Arc::default(),
            connect_rates: CurrentRates::default(),
            publish_rates: CurrentRates::default(),
            refused: Default::default(),
        }
    }

    /// Counts one more connection.
    ///
    /// # Errors
    ///
    /// The client has opened too many in too little time, or has too many.
    pub(crate) fn connect(&self, source: Source<'_>) -> Result<Held, TurnedAway> {
        let limits = self.limits.load();
        if let Some(rates) = self.connect_rates.of(limits.connect_rate)
            && let Err(TooFast::Wait(wait)) = rates.check(&self.accounts, source, NonZeroU32::MIN)
        {
            self.count(Limit::ConnectRate);
            return Err(TurnedAway::TooFast { wait });
        }
        let mut held = Held::default();
        if let Some(each_max) = limits.connections_per_address_max
            && let Some(account) = self.accounts.address(source.address)
        {
            held.0[0] = Some(self.address_places.take(account, each_max).ok_or_else(|| {
                self.count(Limit::Address);
                TurnedAway::Address { each_max }
            })?);
        }
        if let Some(each_max) = limits.connections_per_user_max
            && let Some(account) = self.accounts.user(source.identity)
        {
            held.0[1] = Some(self.user_places.take(account, each_max).ok_or_else(|| {
                self.count(Limit::User);
                TurnedAway::User { each_max }
            })?);
        }
        Ok(held)
    }

    /// Counts events that are about to be published together.
    ///
    /// # Errors
    ///
    /// They are too many for now, or for ever.
    pub(crate) fn publish(&self, source: Source<'_>, events: usize) -> Result<(), Problem> {
        let Some(rates) = self.publish_rates() else { return Ok(()) };
        let Some(amount) = amount(events) else { return Ok(()) };
        rates.check(&self.accounts, source, amount).map_err(|error| {
            self.count(Limit::PublishRate);
            too_many_events(&rates, events, error)
        })
    }

    /// Waits until so many events are not too many for now, and counts them. More than
    /// [`publish_burst`](Self::publish_burst) are counted in turns.
    ///
    /// # Cancel safety
    ///
    /// Of those nothing is counted whose turn has not come.
    pub(crate) async fn publish_when_due(&self, source: Source<'_>, events: usize) {
        let mut left = events;
        while let (Some(rates), Some(amount)) = (self.publish_rates(), amount(left)) {
            let amount = NonZeroU32::new(rates.rate().burst).map_or(amount, |it| it.min(amount));
            match rates.check(&self.accounts, source, amount) {
                Ok(()) => left -= amount.get() as usize,
                Err(TooFast::Wait(wait)) => tokio::time::sleep(wait).await,
                // It is no more than that.
                Err(TooFast::MoreThanBurst) => return,
            }
        }
    }

    /// Events that may be published at once; `None` for any number.
    pub(crate) fn publish_burst(&self) -> Option<usize> {
        self.publish_rates().map(|rates| rates.rate().burst as usize)
    }

    fn publish_rates(&self) -> Option<Arc<Rates>> {
        self.publish_rates.of(self.limits.load().publish_rate)
    }

    /// How often each limit was met, in the order of [`Limit::ALL`].
    pub(crate) fn refused(&self) -> [(Limit, u64); Limit::ALL.len()] {
        Limit::ALL.map(|limit| (limit, self.refused[limit as usize].load(Ordering::Relaxed)))
    }

    /// How many connections were turned away.
    pub(crate) fn turned_away(&self) -> u64 {
        let connections = |limit| limit != Limit::PublishRate;
        self.refused().iter().filter(|(limit, _)| connections(*limit)).map(|(_, count)| count).sum()
    }

    fn count(&self, limit: Limit) {
        self.refused[limit as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Held {
    /// Gives the places back when a connection ends, before `on_end`.
    pub(crate) fn until_end(self, on_end: Option<OnEnd>) -> Option<OnEnd> {
        if self.0.iter().all(Option::is_none) {
            return on_end;
        }
        Some(Box::new(move |reason| {
            drop(self);
            if let Some(on_end) = on_end {
                on_end(reason);
            }
        }))
    }
}

impl TurnedAway {
    /// How long to stay away at least.
    pub(crate) fn wait(self) -> Duration {
        match self {
            Self::TooFast { wait } => wait,
            Self::Address { .. } | Self::User { .. } => Duration::ZERO,
        }
    }
}

impl From<TurnedAway> for Problem {
    fn from(turned_away: TurnedAway) -> Self {
        let (each_max, whose, option) = match turned_away {
            TurnedAway::TooFast { wait } => {
                let detail =
                    "Come back after the time in Retry-After: connect_rate says how often.";
                return Self::new(Kind::TooManyRequests, detail).retry_after(whole_seconds(wait));
            }
            TurnedAway::Address { each_max } => (each_max, "address", "max_connections_per_ip"),
            TurnedAway::User { each_max } => (each_max, "user", "max_connections_per_user"),
        };
        let detail = format!(
            "Close one, or come back after the time in Retry-After: {each_max} are open for this \
             {whose}, which {option} allows."
        );
        Self::new(Kind::TooManyConnections, detail)
    }
}

fn too_many_events(rates: &Rates, events: usize, error: TooFast) -> Problem {
    let rate = rates.rate();
    match error {
        TooFast::Wait(wait) => {
            let detail = format!(
                "Publish after the time in Retry-After: {} events a second are allowed, and {} at \
                 once.",
                rate.per_second, rate.burst
            );
            Problem::new(Kind::TooManyRequests, detail).retry_after(whole_seconds(wait))
        }
        TooFast::MoreThanBurst => {
            let detail = format!(
                "Send several arrays, or application/x-ndjson: {events} events at once are never \
                 allowed, at most {} are.",
                rate.burst
            );
            Problem::new(Kind::TooManyRequests, detail)
        }
    }
}

fn amount(events: usize) -> Option<NonZeroU32> {
    NonZeroU32::new(u32::try_from(events).unwrap_or(u32::MAX))
}

/// Rounded up, at least one: who comes back then is let in.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}
