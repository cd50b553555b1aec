use tidings_core::Topic;

use super::*;
use crate::presence::attendance::Attendance;

fn beat(count: u64, started_ms: u64, version: u64) -> Beat {
    Beat { count, started_ms, version, is_ready: true, is_leaving: false }
}

fn topics() -> Topics {
    let attendance = Attendance { connections: 1, ..Default::default() };
    Topics::from([(Topic::parse("a").unwrap(), attendance)])
}

#[test]
fn a_node_is_dead_when_it_says_nothing_new_while_it_could() {
    let (me, peer) = (NodeId(1), NodeId(2));
    let mut nodes = Nodes::new(me, 100);
    assert_eq!(nodes.handle_beats([(me, beat(1, 100, 0)), (peer, beat(1, 50, 3))], 0), [peer]);
    assert!(!nodes.is_complete() && !nodes.leads());
    nodes.handle_topics(peer, 3, topics());
    assert!(nodes.is_complete());
    assert_eq!(nodes.topics().count(), 1);
    // The same note again and again, or none.
    assert!(nodes.handle_beats([(peer, beat(1, 50, 3))], SILENCE_MAX_MS - 2).is_empty());
    nodes.handle_beats([], 1);
    assert_eq!(nodes.count(), 1);
    nodes.handle_beats([(peer, beat(2, 50, 3))], 1_000);
    nodes.handle_beats([(peer, beat(2, 50, 3))], SILENCE_MAX_MS);
    assert_eq!((nodes.count(), nodes.leads()), (0, true));
    // It is not taken for new as long as its note is up, and lives when it says something.
    nodes.handle_beats([(peer, beat(2, 50, 3))], 1);
    assert_eq!(nodes.count(), 0);
    nodes.handle_beats([(peer, beat(3, 50, 3))], 1);
    assert_eq!((nodes.count(), nodes.leads()), (1, false));
}

#[test]
fn who_leaves_is_gone_at_once() {
    let mut nodes = Nodes::new(NodeId(1), 100);
    let peer = NodeId(2);
    nodes.handle_beats([(peer, beat(1, 50, 1))], 0);
    nodes.handle_topics(peer, 1, topics());
    let leaving = Beat { is_leaving: true, ..beat(2, 50, 1) };
    assert!(nodes.handle_beats([(peer, leaving)], 1).is_empty());
    assert_eq!((nodes.count(), nodes.topics().count(), nodes.leads()), (0, 0, true));
}

#[test]
fn the_oldest_node_that_is_ready_leads() {
    let check = |started_ms, is_ready, id, leads| {
        let mut nodes = Nodes::new(NodeId(5), 100);
        nodes.handle_beats([(NodeId(id), Beat { is_ready, ..beat(1, started_ms, 0) })], 0);
        assert_eq!(nodes.leads(), leads, "{started_ms} {is_ready} {id}");
    };
    check(99, true, 9, false);
    check(99, false, 9, true);
    check(101, true, 1, true);
    check(100, true, 4, false);
    check(100, true, 6, true);
}

#[test]
fn an_id_has_one_spelling() {
    let id = NodeId(0xab);
    assert_eq!(id.to_string(), "00000000000000ab");
    assert_eq!(NodeId::parse("00000000000000ab"), Some(id));
    for text in ["", "ab", "00000000000000AB", "+0000000000000ab", "000000000000000ab", "x"] {
        assert_eq!(NodeId::parse(text), None, "{text}");
    }
}
