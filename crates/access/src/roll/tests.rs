use super::*;

const DEBOUNCE_MS: u64 = 100;

fn at(monotonic_ms: u64) -> Moment {
    Moment { monotonic_ms, unix_ms: 1_000_000 + monotonic_ms }
}

fn user(name: &str) -> User {
    User { issuer: None, name: name.into() }
}

/// A roll, and what it told: `+ada@5` when she came, `-ada@5` when she left.
struct Told {
    roll: Roll,
    has_room: bool,
    news: Vec<String>,
}

impl Told {
    fn new() -> Self {
        Self { roll: Roll::new(DEBOUNCE_MS, 3), has_room: true, news: Vec::new() }
    }

    fn connect(&mut self, name: &str, ms: u64) -> Option<Arc<User>> {
        let connected = self.roll.handle_connected(user(name), None, self.has_room, at(ms));
        let (user, news) = connected?;
        self.note(news);
        Some(user)
    }

    fn end(&mut self, name: &str, ms: u64) {
        self.roll.handle_ended(&Arc::new(user(name)), Some("why"), at(ms));
        self.wait(ms);
    }

    fn wait(&mut self, ms: u64) {
        while let Some(news) = self.roll.poll_news(self.has_room, at(ms)) {
            self.note(Some(news));
        }
    }

    fn note(&mut self, news: Option<News>) {
        let shown = |news: News| {
            let sign = if news.kind == Kind::Connected { '+' } else { '-' };
            format!("{sign}{}@{}", news.user.name, news.unix_ms - 1_000_000)
        };
        self.news.extend(news.map(shown));
    }

    fn check(&self, expected: &[&str]) {
        assert_eq!(self.news, expected);
    }
}

#[test]
fn a_user_is_there_with_the_first_stream_and_gone_after_the_last() {
    let mut told = Told::new();
    told.connect("ada", 0);
    told.connect("ada", 10);
    told.end("ada", 20);
    told.wait(1000);
    told.check(&["+ada@0"]);
    told.end("ada", 1000);
    told.wait(1099);
    told.check(&["+ada@0"]);
    assert_eq!(told.roll.deadline_ms(), Some(1100));
    told.wait(1100);
    // The news is of when the last stream ended.
    told.check(&["+ada@0", "-ada@1000"]);
    assert_eq!((told.roll.user_count(), told.roll.deadline_ms()), (0, None));
}

#[test]
fn to_come_back_within_the_debounce_is_no_news() {
    let mut told = Told::new();
    for ms in [0, 150, 300, 450] {
        told.connect("ada", ms);
        told.end("ada", ms + 60);
    }
    told.check(&["+ada@0"]);
    told.wait(610);
    told.connect("ada", 700);
    told.check(&["+ada@0", "-ada@510", "+ada@700"]);
}

#[test]
fn the_same_name_at_another_issuer_is_another_user() {
    let mut told = Told::new();
    let other = User { issuer: Some("other".into()), name: "ada".into() };
    told.connect("ada", 0);
    let (_, news) = told.roll.handle_connected(other, None, true, at(5)).unwrap();
    told.note(news);
    told.check(&["+ada@0", "+ada@5"]);
}

#[test]
fn who_is_one_too_many_is_not_told_of() {
    let mut told = Told::new();
    for name in ["a", "b", "c"] {
        assert!(told.connect(name, 0).is_some());
    }
    assert!(told.connect("d", 0).is_none());
    assert!(told.connect("a", 0).is_some());
    assert_eq!(told.roll.dropped_count(), 1);
    told.end("b", 0);
    told.wait(100);
    assert!(told.connect("d", 100).is_some());
}

#[test]
fn who_was_there_before_a_restart_has_the_debounce_to_come_back() {
    let mut told = Told::new();
    for name in ["ada", "eve"] {
        told.roll.handle_remembered(Arc::new(user(name)), None, at(0));
    }
    told.connect("ada", 50);
    told.wait(99);
    told.check(&[]);
    told.wait(100);
    told.check(&["-eve@0"]);
}

#[test]
fn without_room_only_how_things_are_in_the_end_is_told() {
    let mut told = Told::new();
    told.connect("stays", 0);
    told.connect("goes", 0);
    told.has_room = false;
    told.end("goes", 10);
    told.connect("new", 10);
    told.wait(200);
    told.end("new", 200);
    told.wait(300);
    assert_eq!(told.roll.dropped_count(), 2);
    told.connect("later", 300);
    told.end("stays", 300);
    told.wait(400);
    told.connect("stays", 400);
    told.check(&["+stays@0", "+goes@0"]);
    told.has_room = true;
    told.wait(400);
    told.check(&["+stays@0", "+goes@0", "-goes@10", "+later@400"]);
    assert_eq!(told.roll.dropped_count(), 4);
}

#[test]
fn a_shutdown_waits_for_nobody() {
    let mut told = Told::new();
    told.connect("ada", 0);
    told.connect("ada", 0);
    told.connect("eve", 0);
    told.end("eve", 10);
    told.roll.handle_shutdown(at(50));
    told.wait(50);
    told.news[2..].sort_unstable();
    told.check(&["+ada@0", "+eve@0", "-ada@50", "-eve@10"]);
    assert_eq!(told.roll.user_count(), 0);
}

/// What is told of each user goes there and back, and ends with what is true, whatever happens and
/// whenever there is room.
#[test]
fn what_is_told_follows_what_is_true() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut told = Told::new();
        told.roll.users_max = 100;
        let names = ["a", "b", "c", "d"];
        let mut streams = [0; 4];
        let mut ms = 0;
        for _ in 0..500 {
            ms += random.u64(0..60);
            let one = random.usize(0..names.len());
            match random.u8(0..10) {
                0..4 => {
                    told.connect(names[one], ms);
                    streams[one] += 1;
                }
                4..8 if streams[one] > 0 => {
                    told.end(names[one], ms);
                    streams[one] -= 1;
                }
                8 => told.has_room = !told.has_room,
                _ => told.wait(ms),
            }
        }
        told.has_room = true;
        told.wait(ms + DEBOUNCE_MS);
        for (name, streams) in names.into_iter().zip(streams) {
            let of_user = |news: &&String| news[1..].starts_with(&format!("{name}@"));
            let signs = told.news.iter().filter(of_user).map(|news| news.starts_with('+'));
            let signs: Vec<_> = signs.collect();
            assert!(signs.iter().step_by(2).all(|sign| *sign), "seed {seed}: {:?}", told.news);
            assert!(signs.iter().skip(1).step_by(2).all(|sign| !sign), "seed {seed}");
            assert_eq!(signs.len() % 2 == 1, streams > 0, "seed {seed}: {name}");
        }
        let there = streams.into_iter().filter(|streams| *streams > 0).count();
        assert_eq!(told.roll.user_count(), there, "seed {seed}");
        assert!(told.roll.owed.is_empty() && told.roll.leaving.is_empty(), "seed {seed}");
    }
}
