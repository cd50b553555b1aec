//! A standby takes over, or a server starts that may have lost something.

use tidings_log::shared::{Engine, EngineError};

use crate::calls::{Node, fresh, record};
use crate::server::{Server, Sql, as_postgres, eventually, folder, quiet};

/// A primary with 10 events, and a standby that has them all.
fn pair() -> (Server, Server) {
    let primary = Server::start();
    let node = Node::open(&primary.url("postgres"));
    for _ in 0..10 {
        node.append("a", "kept");
    }
    let folder = folder();
    let mut backup = as_postgres("pg_basebackup");
    backup.args(["-h", "127.0.0.1", "-p", &primary.port.to_string(), "-U", "postgres"]);
    backup.args(["-c", "fast", "-R", "-D"]).arg(folder.path().join("data"));
    assert!(quiet(&mut backup).status().unwrap().success());
    let standby = Server::start_in(folder, &["hot_standby=on"]);
    let count = "select count(*) from tidings.events";
    let standby_sql = Sql::connect(&standby.url("postgres"));
    eventually("the standby has everything", || standby_sql.run(count) == ["10"]);
    (primary, standby)
}

fn url_of_both(primary: &Server, standby: &Server) -> String {
    // The standby first: it must be passed over as long as it is one.
    format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", standby.port, primary.port)
}

fn promote(standby: &Server) {
    let sql = Sql::connect(&standby.url("postgres"));
    assert_eq!(sql.run("select pg_promote()"), ["t"]);
}

#[test]
fn a_takeover_that_loses_events_begins_another_life() {
    let (mut primary, standby) = pair();
    let node = Node::open(&url_of_both(&primary, &standby));
    assert_eq!(node.append("a", "kept"), 11);
    let received = Sql::connect(&standby.url("postgres"));
    eventually("it is received", || received.run("select count(*) from tidings.events") == ["11"]);
    // Acknowledged, and not yet on the standby.
    received.run("alter system set primary_conninfo = ''; select pg_reload_conf()");
    eventually("nothing is received any more", || {
        received.run("select 1 from pg_stat_wal_receiver").is_empty()
    });
    assert_eq!(node.append("a", "lost"), 12);
    primary.stop("KILL");
    let lost = node.publish(&[vec![record("a", "unsure")]]);
    assert!(
        matches!(lost, Err(EngineError::Unavailable(_) | EngineError::Unwritable(_))),
        "{lost:?}"
    );
    let Err(EngineError::Unwritable(words)) = node.reopen(13) else { panic!("it is a standby") };
    assert!(words.contains("standby"), "{words}");
    promote(&standby);
    let opened = node.reopen(13).unwrap();
    assert_ne!(opened.life.epoch, node.opened.life.epoch);
    assert_eq!(opened.bounds.next, 12);
    assert_eq!(node.append("a", "new"), 12);
    // For the next one who opens it is the same.
    assert_eq!(Node::open(&standby.url("postgres")).life(), opened.life);
}

#[test]
fn a_takeover_that_loses_nothing_goes_on_if_somebody_knows() {
    let (mut primary, standby) = pair();
    let url = url_of_both(&primary, &standby);
    let (node, idle) = (Node::open(&url), Node::open(&url));
    primary.stop("INT");
    promote(&standby);
    assert_eq!(node.engine.bounds(&node.life()).unwrap_err(), EngineError::OtherLife);
    let opened = node.reopen(11).unwrap();
    assert_eq!(opened.life.epoch, node.opened.life.epoch);
    assert_ne!(opened.life.server, node.opened.life.server);
    assert_eq!(node.append("a", "goes on"), 11);
    assert_eq!(idle.reopen(11).unwrap().life, opened.life);
}

#[test]
fn a_takeover_of_which_nobody_knows_anything_begins_another_life() {
    let (mut primary, standby) = pair();
    let before = Node::open(&primary.url("postgres")).life();
    primary.stop("KILL");
    promote(&standby);
    let after = Node::open(&standby.url("postgres"));
    assert_ne!(after.life().epoch, before.epoch);
    assert_eq!(after.read_all().len(), 10, "what is kept stays readable");
}

#[test]
fn a_server_that_does_not_sync_may_have_lost_something_at_each_start() {
    let mut server = Server::start_with(&["fsync=off"]);
    let node = Node::open(&server.url("postgres"));
    node.append("a", "1");
    server.stop("INT");
    server.start_again();
    // Somebody who has seen it all vouches for it.
    let again = node.reopen(2).unwrap();
    assert_eq!(again.life.epoch, node.opened.life.epoch);
    server.stop("INT");
    server.start_again();
    let other = Node::open(&server.url("postgres"));
    assert_ne!(other.life().epoch, node.opened.life.epoch);
}

#[test]
fn a_restart_is_the_same_life() {
    let mut server = Server::start();
    let node = Node::open(&server.url("postgres"));
    node.append("a", "1");
    server.stop("INT");
    let outcome = node.engine.open(None, fresh());
    assert!(matches!(outcome, Err(EngineError::Unavailable(_))), "{outcome:?}");
    server.start_again();
    assert_eq!(Node::open(&server.url("postgres")).life(), node.opened.life);
    eventually("the node goes on by itself", || node.publish(&[vec![record("a", "2")]]).is_ok());
}
