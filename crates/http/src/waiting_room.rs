//! Connections without a request under way, in the order in which they began to wait.
//!
//! A client that says nothing costs a socket for as long as it may take for a request. However many
//! of them come, those that ask at once are served: over a number, whoever has waited longest is turned
//! out. Each event takes constant time, and nothing is awaited while the room is locked.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::line_figures::LineFigures;

/// The connections of a server that wait; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct WaitingRoom(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    room: Mutex<Room>,
    waiting_max: usize,
    figures: Arc<LineFigures>,
}

/// One connection, which waits or does not; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Guest(Arc<Seat>);

#[derive(Debug)]
struct Seat {
    room: WaitingRoom,
    /// Its place in the room, [`NOWHERE`] or [`GONE`]; only looked at while the room is locked.
    place: AtomicU32,
    turned_out: Notify,
}

/// Ends the stay of a connection when it is dropped, whoever still knows its guest.
pub(crate) struct Stay(pub(crate) Guest);

/// A list of those who wait, linked by their places.
#[derive(Debug)]
struct Room {
    places: Vec<Place>,
    /// Places that nobody has.
    free: Vec<u32>,
    count: usize,
    longest: u32,
    latest: u32,
}

#[derive(Debug)]
struct Place {
    guest: Option<Guest>,
    before: u32,
    after: u32,
}

impl WaitingRoom {
    pub(crate) fn new(waiting_max: usize, figures: Arc<LineFigures>) -> Self {
        let room = Room {
            places: Vec::new(),
            free: Vec::new(),
            count: 0,
            longest: NOWHERE,
            latest: NOWHERE,
        };
        let waiting_max = waiting_max.clamp(1, GONE as usize - 1);
        Self(Arc::new(Inner { room: Mutex::new(room), waiting_max, figures }))
    }

    /// A new connection, which waits.
    pub(crate) fn enter(&self) -> Stay {
        let seat =
            Seat { room: self.clone(), place: AtomicU32::new(NOWHERE), turned_out: Notify::new() };
        let guest = Guest(Arc::new(seat));
        guest.wait();
        Stay(guest)
    }

    /// Turns out an eighth of those who wait, for lack of something else than places.
    pub(crate) fn make_room(&self) {
        let count = self.lock().count / 8 + 1;
        for _ in 0..count {
            let turned_out = {
                let mut room = self.lock();
                let turned_out = room.take_longest();
                self.0.figures.set_waiting(room.count);
                turned_out
            };
            self.turn_out(turned_out);
        }
    }

    fn turn_out(&self, guest: Option<Guest>) {
        if let Some(guest) = guest {
            self.0.figures.count_turned_out();
            guest.0.turned_out.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Room> {
        self.0.room.lock().expect("no thread panics while it is in the room")
    }
}

impl Guest {
    /// Begins to wait, unless it does.
    pub(crate) fn wait(&self) {
        self.wait_if(|| true);
    }

    /// Waits no longer: a request is under way.
    pub(crate) fn leave(&self) {
        self.wait_if(|| false);
    }

    /// Waits from now on or does not, as is decided while nobody else decides for this connection.
    pub(crate) fn wait_if(&self, waits: impl FnOnce() -> bool) {
        let room = &self.0.room;
        let turned_out = {
            let mut inside = room.lock();
            match (self.0.place(), waits()) {
                (NOWHERE, true) => inside.seat(self.clone()),
                (GONE | NOWHERE, _) | (_, true) => return,
                (place, false) => drop(inside.take(place)),
            }
            let is_full = inside.count > room.0.waiting_max;
            let turned_out = if is_full { inside.take_longest() } else { None };
            room.0.figures.set_waiting(inside.count);
            turned_out
        };
        room.turn_out(turned_out);
    }

    /// Completes when the connection is to end for the sake of others.
    pub(crate) async fn turned_out(&self) {
        self.0.turned_out.notified().await;
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.leave();
        let room = &self.0.0.room;
        let _inside = room.lock();
        self.0.0.set_place(GONE);
    }
}

impl Seat {
    fn place(&self) -> u32 {
        self.place.load(Ordering::Relaxed)
    }

    fn set_place(&self, place: u32) {
        self.place.store(place, Ordering::Relaxed);
    }
}

impl Room {
    /// Puts a guest behind all others.
    fn seat(&mut self, guest: Guest) {
        let seat = Arc::clone(&guest.0);
        let new = Place { guest: Some(guest), before: self.latest, after: NOWHERE };
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = new;
                place
            }
            None => {
                self.places.push(new);
                self.places.len() as u32 - 1
            }
        };
        match self.latest {
            NOWHERE => self.longest = place,
            latest => self.places[latest as usize].after = place,
        }
        self.latest = place;
        self.count += 1;
        seat.set_place(place);
    }

    fn take_longest(&mut self) -> Option<Guest> {
        match self.longest {
            NOWHERE => None,
            place => self.take(place),
        }
    }

    /// Takes out who has this place.
    fn take(&mut self, place: u32) -> Option<Guest> {
        let left = &mut self.places[place as usize];
        let (guest, before, after) = (left.guest.take(), left.before, left.after);
        match before {
            NOWHERE => self.longest = after,
            before => self.places[before as usize].after = after,
        }
        match after {
            NOWHERE => self.latest = before,
            after => self.places[after as usize].before = before,
        }
        self.count -= 1;
        if self.count == 0 {
            // A flood leaves nothing behind.
            (self.places, self.free) = (Vec::new(), Vec::new());
        } else {
            self.free.push(place);
        }
        guest.inspect(|guest| guest.0.set_place(NOWHERE))
    }
}

const NOWHERE: u32 = u32::MAX;
/// It never waits again.
const GONE: u32 = u32::MAX - 1;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Poll;

    use super::*;

    async fn is_turned_out(stay: &Stay) -> bool {
        let mut turned_out = pin!(stay.0.turned_out());
        poll_fn(|cx| Poll::Ready(turned_out.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test]
    async fn who_has_waited_longest_is_turned_out_and_nobody_else() {
        const WAITING_MAX: usize = 7;
        let figures = Arc::new(LineFigures::default());
        let room = WaitingRoom::new(WAITING_MAX, Arc::clone(&figures));
        let mut random = fastrand::Rng::with_seed(7);
        let mut stays: Vec<(usize, Stay)> = Vec::new();
        // The same as a plain queue.
        let mut waiting: VecDeque<usize> = VecDeque::new();
        let mut turned_out = 0;
        for step in 0..20_000 {
            let chosen = random.usize(..stays.len() + 1);
            match (stays.get(chosen), random.u8(..8)) {
                (None, _) if stays.len() < 2 * WAITING_MAX => {
                    stays.push((step, room.enter()));
                    waiting.push_back(step);
                }
                (None, _) => {}
                (Some((name, stay)), 0 | 1) => {
                    stay.0.leave();
                    waiting.retain(|other| other != name);
                }
                (Some((name, stay)), 2..7) => {
                    stay.0.wait();
                    if !waiting.contains(name) {
                        waiting.push_back(*name);
                    }
                }
                (Some(_), _) => {
                    let (name, stay) = stays.swap_remove(chosen);
                    let guest = stay.0.clone();
                    drop(stay);
                    guest.wait();
                    waiting.retain(|&other| other != name);
                }
            }
            if waiting.len() > WAITING_MAX {
                let name = waiting.pop_front().unwrap();
                let at = stays.iter().position(|(other, _)| *other == name).unwrap();
                assert!(is_turned_out(&stays[at].1).await);
                stays.swap_remove(at);
                turned_out += 1;
            }
            assert_eq!(figures.waiting(), waiting.len() as u64);
            assert_eq!(figures.totals()[0].2, turned_out);
        }
        assert!(turned_out > 100);
        for (_, stay) in &stays {
            assert!(!is_turned_out(stay).await);
        }
        drop(stays);
        assert_eq!(figures.waiting(), 0);
        assert!(room.lock().places.is_empty());
    }

    #[tokio::test]
    async fn room_is_made_by_turning_out_some() {
        let figures = Arc::new(LineFigures::default());
        let room = WaitingRoom::new(100, Arc::clone(&figures));
        room.make_room();
        let stays: Vec<Stay> = std::iter::repeat_with(|| room.enter()).take(80).collect();
        room.make_room();
        assert_eq!((figures.waiting(), figures.totals()[0].2), (69, 11));
        for (number, stay) in stays.iter().enumerate() {
            assert_eq!(is_turned_out(stay).await, number < 11, "{number}");
        }
        drop(stays);
        assert_eq!(figures.waiting(), 0);
    }
}
