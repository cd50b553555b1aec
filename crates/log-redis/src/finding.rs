//! Finding the server that the log is on: the one that is named, the one that sentinels name, or the one that serves
//! the log's slot of a cluster.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use tidings_log::shared::EngineError;

use crate::address::{Address, Host, Place};
use crate::connection::{CONNECT_TIMEOUT, Connection, Entrance, REPLY_BYTES, Spot};
use crate::server::ServerFacts;
use crate::wire::{Commands, Reply};

/// Connects to wherever the log is at that time.
#[derive(Debug)]
pub(crate) struct Finder {
    pub(crate) address: Address,
    tls: Option<Arc<ClientConfig>>,
    /// Nodes of the cluster, or sentinels: those that helped last first, then those that were named.
    hosts: Mutex<Vec<Host>>,
}

/// A connection to the server that the log is on.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) facts: ServerFacts,
    /// When they were asked for.
    pub(crate) checked_at: Instant,
}

impl Finder {
    pub(crate) fn new(address: Address, tls: Option<Arc<ClientConfig>>) -> Self {
        let hosts = match &address.place {
            Place::Sentinels { hosts, .. } | Place::Cluster(hosts) => hosts.clone(),
            Place::Server(_) | Place::Socket(_) => Vec::new(),
        };
        Self { address, tls, hosts: Mutex::new(hosts) }
    }

    /// Connects. `key` is one of the log's.
    pub(crate) fn connect(&self, key: &str) -> Result<Link, EngineError> {
        match &self.address.place {
            Place::Server(host) => self.link(&Spot::Host(host.clone())),
            Place::Socket(path) => self.link(&Spot::Socket(path.clone())),
            Place::Sentinels { master, .. } => self.first_of_hosts(|sentinel| {
                let host = self.ask_sentinel(sentinel, master)?;
                self.put_first(sentinel.clone());
                self.link(&Spot::Host(host))
            }),
            Place::Cluster(_) => self.first_of_hosts(|host| self.link_to_slot(host, key)),
        }
    }

    /// Tries one host after the other, next time last the one that did not help.
    fn first_of_hosts(
        &self,
        attempt: impl Fn(&Host) -> Result<Link, EngineError>,
    ) -> Result<Link, EngineError> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let begun = Instant::now();
        let mut failure = None;
        for host in &hosts {
            match attempt(host) {
                Ok(link) => return Ok(link),
                // What one refuses, another may permit; but it is the better thing to tell.
                Err(error @ EngineError::Refused(_)) => failure = Some(error),
                Err(error) => failure = failure.or(Some(error)),
            }
            self.put_last(host);
            if begun.elapsed() > FINDING_TIMEOUT {
                break;
            }
        }
        Err(failure.unwrap_or_else(|| EngineError::Unavailable("no host is named".to_owned())))
    }

    fn put_first(&self, host: Host) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|known| *known != host);
        hosts.insert(0, host);
        hosts.truncate(KNOWN_MAX);
    }

    fn put_last(&self, host: &Host) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = hosts.iter().position(|known| known == host) {
            hosts[place..].rotate_left(1);
        }
    }

    fn link(&self, spot: &Spot) -> Result<Link, EngineError> {
        let mut connection = Connection::open(spot, &self.entrance())?;
        let facts = ServerFacts::ask(&mut connection)?;
        if facts.is_cluster && !matches!(self.address.place, Place::Cluster(_)) {
            let server = connection.server();
            return Err(EngineError::Refused(format!(
                "{server} belongs to a cluster: write redis+cluster:// in --log"
            )));
        }
        Ok(Link { connection, facts, checked_at: Instant::now() })
    }

    fn entrance(&self) -> Entrance<'_> {
        let Address { login, database, .. } = &self.address;
        Entrance { tls: self.tls.as_ref(), login, database: *database }
    }

    fn ask_sentinel(&self, sentinel: &Host, master: &str) -> Result<Host, EngineError> {
        let login = &self.address.sentinel_login;
        let entrance = Entrance { tls: self.tls.as_ref(), login, database: 0 };
        let mut connection = Connection::open(&Spot::Host(sentinel.clone()), &entrance)?;
        let mut commands = Commands::default();
        commands.add(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", master]);
        let reply = connection.call(&commands, 1, REPLY_BYTES, CONNECT_TIMEOUT)?.pop();
        match reply {
            Some(Reply::Error(error)) => Err(connection.refusal(&error)),
            Some(Reply::List(pair)) => {
                let name = pair.first().and_then(Reply::as_str).filter(|name| !name.is_empty());
                let port =
                    pair.get(1).and_then(Reply::as_u64).and_then(|it| u16::try_from(it).ok());
                match (name, port) {
                    (Some(name), Some(port)) => Ok(Host { name: name.to_owned(), port }),
                    _ => Err(connection.unexpected("address of a master")),
                }
            }
            _ => Err(EngineError::Refused(format!(
                "the sentinel at {sentinel} knows no master {master:?}"
            ))),
        }
    }

    /// Goes from a node of the cluster to the one that serves the log's slot.
    fn link_to_slot(&self, host: &Host, key: &str) -> Result<Link, EngineError> {
        let mut host = host.clone();
        for _ in 0..REDIRECTIONS_MAX {
            let mut connection = Connection::open(&Spot::Host(host.clone()), &self.entrance())?;
            let mut commands = Commands::default();
            commands.add(&["EXISTS", key]);
            let reply = connection.call(&commands, 1, REPLY_BYTES, CONNECT_TIMEOUT)?.pop();
            let Some(Reply::Error(error)) = reply else {
                let facts = ServerFacts::ask(&mut connection)?;
                self.put_first(host);
                self.learn(&mut connection);
                return Ok(Link { connection, facts, checked_at: Instant::now() });
            };
            let target = error.strip_prefix("MOVED ").and_then(|rest| rest.split(' ').nth(1));
            let Some((name, port)) = target.and_then(Host::parse_told) else {
                return Err(connection.refusal(&error));
            };
            // Without a name it is the one that was asked.
            host = Host { name: name.unwrap_or(host.name), port };
        }
        Err(EngineError::Unavailable(format!(
            "the nodes of the cluster send each other for the log's slot, the last to {host}"
        )))
    }

    /// Takes note of the other nodes, for when those that were named are gone.
    fn learn(&self, connection: &mut Connection) {
        let mut commands = Commands::default();
        commands.add(&["CLUSTER", "SLOTS"]);
        let replies = connection.call(&commands, 1, SLOTS_BYTES, CONNECT_TIMEOUT);
        let Some(Reply::List(ranges)) = replies.ok().and_then(|mut it| it.pop()) else { return };
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        for node in
            ranges.into_iter().filter_map(Reply::into_list).flatten().filter_map(Reply::into_list)
        {
            let name = node.first().and_then(Reply::as_str).filter(|name| !name.is_empty());
            let port = node.get(1).and_then(Reply::as_u64).and_then(|it| u16::try_from(it).ok());
            let (Some(name), Some(port)) = (name, port) else { continue };
            let host = Host { name: name.to_owned(), port };
            if hosts.len() < KNOWN_MAX && !hosts.contains(&host) {
                hosts.push(host);
            }
        }
    }
}

const REDIRECTIONS_MAX: u32 = 5;
const KNOWN_MAX: usize = 100;
/// After which no other host is tried before the caller has had its say.
const FINDING_TIMEOUT: Duration = Duration::from_secs(5);
/// Each of 16,384 slots a range of its own, with some nodes.
const SLOTS_BYTES: usize = 64 << 20;
