//! What is known of the other nodes: who lives, who is there on them, and who leads.
//!
//! Pure. Whether a node lives is judged by whether its notes change, and by no clock but this node's,
//! which stands still while the notes cannot be read: nobody is thought dead because the store was.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::presence::attendance::Topics;

/// Names a node; drawn at random when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl NodeId {
    /// Reads its one spelling.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let id = Self(u64::from_str_radix(text, 16).ok()?);
        (id.to_string() == text).then_some(id)
    }
}

/// What a node says of itself, over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Beat {
    /// How often it has said so.
    pub(crate) count: u64,
    /// When it started, by its own clock.
    pub(crate) started_ms: u64,
    /// The version of who is there on it.
    pub(crate) version: u64,
    /// Whether it has read what was told, so that it could lead.
    pub(crate) is_ready: bool,
    /// Whether it is going away.
    pub(crate) is_leaving: bool,
}

#[derive(Debug)]
pub(crate) struct Nodes {
    me: NodeId,
    started_ms: u64,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Debug)]
struct Peer {
    beat: Beat,
    /// For how long it has said nothing new.
    silent_ms: u64,
    topics: Arc<Topics>,
    /// The version of `topics`.
    version: Option<u64>,
}

impl Peer {
    fn is_alive(&self) -> bool {
        self.silent_ms < SILENCE_MAX_MS && !self.beat.is_leaving
    }
}

impl Nodes {
    pub(crate) fn new(me: NodeId, started_ms: u64) -> Self {
        Self { me, started_ms, peers: BTreeMap::new() }
    }

    pub(crate) fn me(&self) -> NodeId {
        self.me
    }

    pub(crate) fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// The notes of all nodes were read, `elapsed_ms` after they were before. Returns those of whom it
    /// is to be read who is there.
    pub(crate) fn handle_beats(
        &mut self,
        beats: impl IntoIterator<Item = (NodeId, Beat)>,
        elapsed_ms: u64,
    ) -> Vec<NodeId> {
        let beats: HashMap<NodeId, Beat> = beats.into_iter().collect();
        for (id, peer) in &mut self.peers {
            match beats.get(id) {
                Some(beat) if *beat != peer.beat => {
                    peer.silent_ms = 0;
                    peer.beat = *beat;
                }
                _ => peer.silent_ms = peer.silent_ms.saturating_add(elapsed_ms),
            }
        }
        // Who is dead is remembered for as long as its note is up, so as not to be taken for new.
        self.peers.retain(|id, peer| peer.is_alive() || beats.contains_key(id));
        for (id, beat) in beats {
            if id != self.me && self.peers.len() < NODES_MAX {
                let new = || Peer { beat, silent_ms: 0, topics: Arc::default(), version: None };
                self.peers.entry(id).or_insert_with(new);
            }
        }
        let is_stale = |peer: &Peer| peer.is_alive() && peer.version != Some(peer.beat.version);
        self.peers.iter().filter(|(_, peer)| is_stale(peer)).map(|(id, _)| *id).collect()
    }

    /// It was read who is there on a node.
    pub(crate) fn handle_topics(&mut self, id: NodeId, version: u64, topics: Topics) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.topics = Arc::new(topics);
            peer.version = Some(version);
        }
    }

    /// Who is there on the other nodes that live.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<Topics>> {
        self.peers.values().filter(|peer| peer.is_alive()).map(|peer| &peer.topics)
    }

    /// Whether it is known of each node that lives who is there on it.
    pub(crate) fn is_complete(&self) -> bool {
        self.peers.values().all(|peer| !peer.is_alive() || peer.version.is_some())
    }

    /// Whether no node that lives and could lead has started before this one.
    pub(crate) fn leads(&self) -> bool {
        let before = |(id, peer): (&NodeId, &Peer)| {
            peer.is_alive()
                && peer.beat.is_ready
                && (peer.beat.started_ms, *id) < (self.started_ms, self.me)
        };
        !self.peers.iter().any(before)
    }

    /// How many other nodes live.
    pub(crate) fn count(&self) -> u64 {
        self.peers.values().filter(|peer| peer.is_alive()).count() as u64
    }
}

/// How long a node may say nothing new before it is taken for dead.
pub(crate) const SILENCE_MAX_MS: u64 = 10_000;
/// Far more nodes than any log has.
const NODES_MAX: usize = 1_000;

#[cfg(test)]
mod tests;
