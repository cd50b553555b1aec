//! All publishers and subscribers of a trial.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use fastrand::Rng;

use crate::history::History;
use crate::ledger::{Event, Ledger, Places};
use crate::publisher::Publisher;
use crate::subscriber::{END, QUERIES, Received, Subscriber};
use crate::whereabouts::Whereabouts;

pub(crate) struct Clients {
    whereabouts: Arc<Whereabouts>,
    ledgers: Vec<Arc<Mutex<Ledger>>>,
    received: Vec<Arc<Mutex<Received>>>,
    publishers: Vec<JoinHandle<()>>,
    subscribers: Vec<JoinHandle<()>>,
    is_finished: bool,
}

impl Clients {
    pub(crate) fn start(whereabouts: &Arc<Whereabouts>, publishers: usize, seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 1);
        let mut clients = Self {
            whereabouts: Arc::clone(whereabouts),
            ledgers: Vec::new(),
            received: Vec::new(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            is_finished: false,
        };
        for name in 0..publishers {
            let ledger = Arc::new(Mutex::new(Ledger::default()));
            clients.ledgers.push(Arc::clone(&ledger));
            let publisher = Publisher::new(name, random.fork(), Arc::clone(whereabouts), ledger);
            let whereabouts = Arc::clone(whereabouts);
            clients.publishers.push(thread::spawn(move || whereabouts.run(|| publisher.run())));
        }
        for query in QUERIES {
            let received = Arc::new(Mutex::new(Received::new(query)));
            clients.received.push(Arc::clone(&received));
            let whereabouts = Arc::clone(whereabouts);
            let subscriber =
                Subscriber::new(query.0, random.fork(), Arc::clone(&whereabouts), received);
            clients.subscribers.push(thread::spawn(move || whereabouts.run(|| subscriber.run())));
        }
        clients
    }

    /// Lets publishers end, publishes one last event, and waits until all have received it.
    pub(crate) fn finish(mut self) -> Self {
        self.whereabouts.end();
        self.publishers.drain(..).for_each(|publisher| publisher.join().unwrap());
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        self.ledgers.push(Arc::clone(&ledger));
        let event = Event { topics: vec![END.to_owned()], data: END.to_owned(), is_final: false };
        Publisher::new(
            self.ledgers.len(),
            Rng::with_seed(1),
            Arc::clone(&self.whereabouts),
            ledger,
        )
        .publish_for_sure(event);
        self.subscribers.drain(..).for_each(|subscriber| subscriber.join().unwrap());
        self.is_finished = true;
        self
    }

    /// Holds what all of them know against what is in the log.
    pub(crate) fn check(&self, history: &History) {
        let mut places = Places::of(history);
        for ledger in &self.ledgers {
            ledger.lock().unwrap().check(history, &mut places);
        }
        places.check_empty(history);
        for received in &self.received {
            received.lock().unwrap().check(history, self.is_finished);
        }
    }
}

impl fmt::Display for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ledgers = || self.ledgers.iter().map(|ledger| ledger.lock().unwrap());
        let acknowledged: usize = ledgers().map(|ledger| ledger.acknowledged_count()).sum();
        let unknown: usize = ledgers().map(|ledger| ledger.unknown_count()).sum();
        let received = || self.received.iter().map(|received| received.lock().unwrap());
        let delivered: usize = received().map(|received| received.count()).sum();
        let connections: usize = received().map(|received| received.connections).sum();
        write!(
            f,
            "{acknowledged} acknowledged, {unknown} publishes without an answer; {delivered} \
             received over {connections} connections"
        )
    }
}
