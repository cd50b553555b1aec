//! Deadlines of many subscribers in constant time and sixteen bytes each.
//!
//! A deadline is due in the first tick that does not lie before it, so it is at most one tick
//! late. One beyond the horizon waits at the horizon and goes round again. Nothing is cancelled:
//! whoever is told holds the deadline against the one that counts.

use crate::Millis;

/// A hashed timer wheel of [`SLOTS`] slots of [`TICK_MS`] each.
#[derive(Debug)]
pub(crate) struct TimerWheel<K> {
    slots: Box<[Vec<(Millis, K)>]>,
    /// One bit for each slot that holds something.
    occupied: [u64; SLOTS / 64],
    /// The first tick that has not expired.
    tick: u64,
}

impl<K> TimerWheel<K> {
    pub(crate) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        Self { slots, occupied: [0; SLOTS / 64], tick: 0 }
    }

    pub(crate) fn schedule(&mut self, at: Millis, key: K) {
        let tick = at.div_ceil(TICK_MS).clamp(self.tick, self.tick + SLOTS as u64 - 1);
        let slot = slot_of(tick);
        self.slots[slot].push((at, key));
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Appends every deadline that has passed, with its key, to `due`.
    pub(crate) fn expire(&mut self, now: Millis, due: &mut Vec<(Millis, K)>) {
        let ticks = (now / TICK_MS + 1).saturating_sub(self.tick);
        let first_due = due.len();
        for tick in self.tick..self.tick + ticks.min(SLOTS as u64) {
            let slot = slot_of(tick);
            if self.occupied[slot / 64] & (1 << (slot % 64)) != 0 {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
                due.append(&mut self.slots[slot]);
                self.slots[slot].shrink_to(KEPT_CAPACITY);
            }
        }
        self.tick += ticks;
        let mut place = first_due;
        while place < due.len() {
            if due[place].0 > now {
                let (at, key) = due.swap_remove(place);
                self.schedule(at, key);
            } else {
                place += 1;
            }
        }
    }

    /// When [`expire`](Self::expire) next has something to give, or `None` if nothing waits.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        (self.tick..self.tick + SLOTS as u64)
            .find(|&tick| {
                let slot = slot_of(tick);
                self.occupied[slot / 64] & (1 << (slot % 64)) != 0
            })
            .map(|tick| tick * TICK_MS)
    }
}

fn slot_of(tick: u64) -> usize {
    (tick % SLOTS as u64) as usize
}

/// Fine enough that a deadline of a second is kept to 5 %.
const TICK_MS: u64 = 50;
/// Reaches 51 s ahead: beyond the default heartbeat and write timeout, so few go round again.
const SLOTS: usize = 1024;
/// A slot keeps room for this many keys, so that a burst does not pin its memory.
const KEPT_CAPACITY: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn expired(wheel: &mut TimerWheel<u32>, now: Millis) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due.sort_unstable();
        due.into_iter().map(|(_, key)| key).collect()
    }

    #[test]
    fn a_key_comes_due_once_and_never_early() {
        let mut wheel = TimerWheel::new();
        for at in 0..500_u32 {
            wheel.schedule(u64::from(at), at);
        }
        let mut seen = Vec::new();
        for now in 0..700 {
            for key in expired(&mut wheel, now) {
                assert!(u64::from(key) <= now && now < u64::from(key) + TICK_MS);
                seen.push(key);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..500).collect::<Vec<_>>());
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_comes_due_in_its_time() {
        let mut wheel = TimerWheel::new();
        wheel.schedule(200_000, 1);
        let mut now = 0;
        while now < 200_000 {
            assert_eq!(expired(&mut wheel, now), []);
            now = wheel.next_deadline().unwrap();
        }
        assert_eq!(expired(&mut wheel, now), [1]);
        assert_eq!(now, 200_000);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_clock_that_jumps_far_expires_everything_once() {
        let mut wheel = TimerWheel::new();
        wheel.schedule(10, 1);
        wheel.schedule(40_000, 2);
        assert_eq!(expired(&mut wheel, 10_000_000), [1, 2]);
        wheel.schedule(5, 3);
        assert_eq!(expired(&mut wheel, 10_000_000), []);
        assert_eq!(expired(&mut wheel, 10_000_000 + TICK_MS), [3]);
    }
}
