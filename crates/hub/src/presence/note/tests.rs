use fastrand::Rng;

use super::*;

fn member_of(issuer: Option<&str>, user: &str) -> Arc<Member> {
    Arc::new(Member { issuer: issuer.map(Into::into), user: user.into() })
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

fn topics() -> Topics {
    let here = |connections, since| Here { connections, since };
    let members = [
        (member_of(None, "ann"), here(1, 5)),
        (member_of(Some("i"), "ann"), here(2, 6)),
        (member_of(Some("j\""), "ü"), here(1, u64::MAX)),
    ];
    let first = Attendance { connections: 9, members: members.into() };
    Topics::from([
        (topic("chat/\\1"), first),
        (topic("b"), Attendance { connections: 1, members: BTreeMap::new() }),
    ])
}

fn ledger() -> Ledger {
    let told = |offset, is_present| Told { offset, is_present, at: 3 };
    let all = [
        ((topic("a"), member_of(None, "ann")), told(4, true)),
        ((topic("b"), member_of(Some("i"), "ann")), told(9, false)),
    ];
    Ledger::from_told(Epoch::from_random(7), 10, all)
}

#[test]
fn what_is_written_is_read() {
    let beat =
        Beat { count: 1, started_ms: 2, version: u64::MAX, is_ready: true, is_leaving: false };
    assert_eq!(read_beat(&write_beat(&beat)), Ok(beat));
    assert_eq!(read_topics(&write_topics(7, &topics()), 3), Ok((7, topics())));
    let (written, read) = (ledger(), read_ledger(&write_ledger(&ledger()).unwrap()).unwrap());
    let all = |it: &Ledger| {
        let all = it.all().map(|(topic, member, told)| (topic.clone(), member.clone(), *told));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(_, _, told)| told.offset);
        (it.epoch(), it.position(), it.present_count(), all)
    };
    assert_eq!(all(&read), all(&written));
}

#[test]
fn what_goes_too_far_is_not_believed() {
    let long = "x".repeat(1_025);
    let wrong = |note: String| assert!(read_topics(note.as_bytes(), 2).is_err(), "{note}");
    let note = |issuers: &str, topics: &str| {
        format!(r#"{{"version":1,"attendance":1,"issuers":[{issuers}],"topics":[{topics}]}}"#)
    };
    assert!(read_topics(note("", "").as_bytes(), 2).is_ok());
    wrong(note("", "").replace("1,\"att", "2,\"att"));
    wrong(note("", r#"["*",1,[]]"#));
    wrong(note("", r#"["a",-1,[]]"#));
    wrong(note("", r#"["a",1,[[0,"ann",1,1]]]"#));
    wrong(note("", r#"["a",1,[[null,"a\nb",1,1]]]"#));
    wrong(note("", &format!(r#"["a",1,[[null,"{long}",1,1]]]"#)));
    wrong(note(&format!("\"{long}\""), r#"["a",1,[[0,"ann",1,1]]]"#));
    wrong(note("", r#"["a",1,[]],["b",1,[]],["c",1,[]]"#));
    wrong(note("", r#"["a",1,[[null,"a",1,1],[null,"b",1,1],[null,"c",1,1]]]"#));
    let note = String::from_utf8(write_ledger(&ledger()).unwrap()).unwrap();
    assert!(read_ledger(note.replace("\"position\":10", "\"position\":9").as_bytes()).is_err());
    assert!(read_ledger(note.replace("\"version\":1", "\"version\":0").as_bytes()).is_err());
}

/// Whatever stands in a note, it is read or not, and nothing else happens.
#[test]
fn notes_that_were_damaged_do_no_harm() {
    let mut rng = Rng::with_seed(1);
    let notes = [write_topics(7, &topics()), write_ledger(&ledger()).unwrap()];
    let mut refused = 0;
    for round in 0..20_000 {
        let mut note = notes[round % 2].clone();
        for _ in 0..rng.usize(1..4) {
            let place = rng.usize(..note.len());
            match rng.u8(..3) {
                0 => note[place] = rng.u8(..),
                1 => drop(note.remove(place)),
                _ => note.insert(place, *rng.choice(b"[]{},:\"0123456789-e\\").unwrap()),
            }
        }
        let is_read = if round % 2 == 0 {
            read_topics(&note, 10).is_ok_and(|(_, topics)| topics.len() <= 10)
        } else {
            read_ledger(&note).is_ok()
        };
        refused += usize::from(!is_read);
    }
    assert!(refused > 10_000, "{refused}");
}
