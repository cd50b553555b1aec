//! A hub that is killed again and again while clients publish and subscribe: nothing that it
//! acknowledged or delivered is lost, changed, doubled or moved.
//!
//! Publishers keep a ledger of what they tried and what they were told, subscribers a list of what
//! they received; the log that is there at the end is held against both. The clients know only the
//! wire. When the hub is killed follows from a seed: after so many acknowledgements or requests, or
//! before it is ready.

#![cfg(target_os = "linux")]

mod clients;
mod connection;
mod history;
mod hub;
mod ledger;
mod publisher;
mod subscriber;
mod whereabouts;

use std::sync::Arc;

use crate::clients::Clients;
use crate::history::History;
use crate::hub::Hub;
use crate::publisher::PER_LIFE_MAX;
use crate::whereabouts::{Count, Whereabouts};

#[test]
fn over_200_kills_each_acknowledged_event_is_kept_and_delivered_once_and_in_order() {
    Trial { durability: "fsync", kills: 200, publishers: 8 }.run();
}

#[test]
fn what_the_operating_system_has_outlives_the_process() {
    Trial { durability: "os", kills: 60, publishers: 4 }.run();
}

/// One life of a log, over many lives of a hub.
struct Trial {
    durability: &'static str,
    kills: usize,
    publishers: usize,
}

impl Trial {
    fn run(&self) {
        let seed = std::env::var("TIDINGS_SEED").map_or(7, |seed| seed.parse().unwrap());
        println!("TIDINGS_SEED={seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let data = tempfile::tempdir().unwrap();
        let whereabouts = Arc::new(Whereabouts::default());
        let clients = Clients::start(&whereabouts, self.publishers, seed);
        let mut history = History::default();
        let mut killed = 0;
        while killed < self.kills {
            let mut hub = Hub::start(data.path(), self.durability);
            if random.u32(0..8) == 0 {
                hub.kill_within_its_start(&mut random);
                killed += 1;
                continue;
            }
            let address = hub.wait_until_ready();
            if random.u32(0..20) == 0 {
                history.read_on(address);
                clients.check(&history);
            }
            whereabouts.announce(address);
            self.wait_for_some_work(&whereabouts, &mut random);
            if random.u32(0..25) == 0 {
                hub.stop();
            } else {
                hub.kill();
                killed += 1;
            }
        }
        let mut hub = Hub::start(data.path(), self.durability);
        let address = hub.wait_until_ready();
        whereabouts.announce(address);
        let clients = clients.finish();
        hub.stop();
        Hub::check_log(data.path());

        let mut hub = Hub::start(data.path(), self.durability);
        let address = hub.wait_until_ready();
        history.read_on(address);
        assert_eq!(history, History::read(address), "what was read before is there as it was");
        clients.check(&history);
        let (events, segments) = (history.len(), hub.segment_count());
        println!("{events} events in {segments} segments over {killed} kills; {clients}");
        assert!(segments > 3, "segments were hardly sealed");
        hub.stop();
    }

    fn wait_for_some_work(&self, whereabouts: &Whereabouts, random: &mut fastrand::Rng) {
        // Acknowledgements come in groups, requests at any moment of a write.
        let (count, most) = match random.bool() {
            true => (Count::Acknowledged, PER_LIFE_MAX / 2),
            false => (Count::Sent, PER_LIFE_MAX * 2 / 3),
        };
        whereabouts.wait_for(count, random.u64(0..(most * self.publishers) as u64));
        (0..random.u32(0..50)).for_each(|_| std::thread::yield_now());
    }
}
