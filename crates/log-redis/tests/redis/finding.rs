//! The server that sentinels name, and the one that serves the log's slot of a cluster.

use std::sync::Arc;

use tidings_log::shared::EngineError;

use crate::node::Node;
use crate::server::{Server, eventually, free_port};

#[test]
fn a_failover_by_sentinels_is_followed() {
    let mut master = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    replica.await_output("MASTER <-> REPLICA sync: Finished with success");
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let config = directory.path().join("sentinel.conf");
    let port = free_port();
    std::fs::write(
        &config,
        format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor hub 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds hub 300\nsentinel failover-timeout hub 2000\n",
            directory.path().display(),
            master.port
        ),
    )
    .unwrap();
    let sentinel = Server::start_in(directory, port, &[&config.to_string_lossy(), "--sentinel"]);
    sentinel.await_output("+slave ");
    let dead = free_port();
    let url = format!(
        "redis+sentinel://127.0.0.1:{dead},127.0.0.1:{port}/hub?replicas=1&replica-timeout=5000"
    );
    let mut node = Node::open(&url);
    node.append(&["a", "b"]).unwrap();
    let epoch = node.life.epoch;
    let fault = Node::try_open(&format!("redis+sentinel://127.0.0.1:{port}/other")).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Refused(words) if words.contains("no master \"other\"")),
        "{fault}"
    );
    master.kill();
    assert!(matches!(node.append(&["c"]), Err(EngineError::Unavailable(_))));
    let opened = eventually("the replica has taken over", || node.reopen().ok());
    assert_eq!((opened.life.epoch, opened.bounds.next), (epoch, 3));
    let plain = Node::open(&replica.url());
    assert_eq!((plain.life.epoch, plain.data()), (epoch, vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn the_slot_of_the_log_is_found_wherever_it_is() {
    let nodes = [(); 3].map(|()| cluster_node());
    // The first has all slots, the second the half in which the log is not.
    let slot: u64 = redis::cmd("CLUSTER")
        .arg("KEYSLOT")
        .arg("{tidings:tidings}:events")
        .query(&mut nodes[0].client())
        .unwrap();
    add_slots(&nodes[0], 0, slot);
    add_slots(&nodes[1], slot + 1, 16_383);
    for other in &nodes[1..] {
        meet(&nodes[0], other);
    }
    for node in &nodes {
        await_info(node, "cluster_state:ok");
        await_info(node, "cluster_known_nodes:3");
    }
    let url = |node: &Server| format!("redis+cluster://127.0.0.1:{}", node.port);
    let fault = Node::try_open(&nodes[0].url()).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Refused(words) if words.contains("redis+cluster://")),
        "{fault}"
    );
    // Whichever is asked, among some that do not answer.
    let mut node = Node::open(&format!(
        "redis+cluster://127.0.0.1:{},127.0.0.1:{}",
        free_port(),
        nodes[2].port
    ));
    node.append(&["a"]).unwrap();
    node.publish(vec![crate::node::keyed("k:1"), crate::node::ended("job")]).unwrap();
    node.trim(&crate::node::ample()).unwrap();
    let other = Node::open(&url(&nodes[1]));
    assert_eq!((other.life.epoch, other.data().len()), (node.life.epoch, 3));
    // The slot moves to the third.
    assert_eq!(node.wait(1, 1).unwrap().entries.len(), 3);
    let epoch = node.life.epoch;
    move_slot(&nodes, slot);
    let fault = eventually("it is told", || match node.wait(4, 100) {
        Err(EngineError::Unavailable(words)) => Some(words),
        _ => None,
    });
    assert!(fault.contains("slot"), "{fault}");
    let opened = eventually("it is found again", || node.reopen().ok());
    assert_eq!((opened.life.epoch, opened.bounds.next), (epoch, 4));
    assert_eq!(node.append(&["b"]), Ok(vec![4]));
}

#[test]
fn a_cluster_may_have_one_node() {
    let server = cluster_node();
    let url = format!("redis+cluster://127.0.0.1:{}", server.port);
    let fault = Node::try_open(&url).unwrap_err();
    assert!(
        matches!(&fault, EngineError::Unavailable(words) if words.contains("slots")),
        "{fault}"
    );
    add_slots(&server, 0, 16_383);
    await_info(&server, "cluster_state:ok");
    let mut node = Node::open(&url);
    assert_eq!(node.append(&["a"]), Ok(vec![1]));
}

fn cluster_node() -> Server {
    let bus = free_port().to_string();
    Server::start(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-node-timeout",
        "2000",
    ])
}

fn cluster(node: &Server, words: &[&str]) -> String {
    let reply: redis::Value = redis::cmd("CLUSTER").arg(words).query(&mut node.client()).unwrap();
    redis::from_redis_value(reply).unwrap_or_default()
}

fn add_slots(node: &Server, low: u64, high: u64) {
    cluster(node, &["ADDSLOTSRANGE", &low.to_string(), &high.to_string()]);
}

fn meet(one: &Server, other: &Server) {
    let bus = cluster(other, &["NODES"]);
    let bus = bus.split('@').nth(1).and_then(|rest| rest.split([' ', ',']).next()).unwrap();
    cluster(one, &["MEET", "127.0.0.1", &other.port.to_string(), bus]);
}

fn await_info(node: &Server, words: &str) {
    eventually(words, || cluster(node, &["INFO"]).contains(words).then_some(()));
}

fn move_slot(nodes: &[Server; 3], slot: u64) {
    let slot = slot.to_string();
    let id = |node: &Server| cluster(node, &["MYID"]);
    cluster(&nodes[2], &["SETSLOT", &slot, "IMPORTING", &id(&nodes[0])]);
    cluster(&nodes[0], &["SETSLOT", &slot, "MIGRATING", &id(&nodes[2])]);
    let keys: Vec<String> = redis::cmd("CLUSTER")
        .arg("GETKEYSINSLOT")
        .arg(&slot)
        .arg(100)
        .query(&mut nodes[0].client())
        .unwrap();
    let mut command = redis::cmd("MIGRATE");
    command.arg("127.0.0.1").arg(nodes[2].port).arg("").arg(0).arg(5_000).arg("KEYS").arg(&keys);
    let _: redis::Value = command.query(&mut nodes[0].client()).unwrap();
    for node in [&nodes[2], &nodes[0], &nodes[1]] {
        cluster(node, &["SETSLOT", &slot, "NODE", &id(&nodes[2])]);
    }
}
