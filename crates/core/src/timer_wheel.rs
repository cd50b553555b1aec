//! Deadlines of many subscribers in constant time and twelve bytes each.
//!
//! Time is counted in ticks of [`TICK_MS`]. A deadline is due in the first tick that does not lie
//! before it, so it is at most one tick late. One beyond the horizon waits at the horizon and goes
//! round again. Nothing is cancelled: whoever is told holds the tick against the one that counts.
//!
//! What a slot holds is a chain of chunks from one pool, so that a turn of the wheel neither
//! allocates nor leaves holes behind.

use crate::Millis;

/// A moment, in units of [`TICK_MS`]; enough for six years.
pub(crate) type Tick = u32;

/// A hashed timer wheel of [`SLOTS`] slots.
#[derive(Debug)]
pub(crate) struct TimerWheel<K> {
    /// The last chunk of each slot, or [`NO_CHUNK`].
    slots: Box<[u32]>,
    /// One bit for each slot that holds something.
    occupied: [u64; WORDS],
    /// The first tick that has not expired.
    tick: Tick,
    chunks: Vec<Chunk<K>>,
    /// The first of the chunks that nobody uses, which are chained like the others.
    free: u32,
    used_count: usize,
}

#[derive(Debug)]
struct Chunk<K> {
    previous: u32,
    count: u32,
    items: [(Tick, K); CHUNK_ITEMS],
}

/// The first tick that does not lie before `at`.
pub(crate) fn tick_of(at: Millis) -> Tick {
    at.div_ceil(TICK_MS).min(Tick::MAX.into()) as Tick
}

impl<K: Copy + Default> TimerWheel<K> {
    pub(crate) fn new() -> Self {
        Self {
            slots: vec![NO_CHUNK; SLOTS].into(),
            occupied: [0; WORDS],
            tick: 0,
            chunks: Vec::new(),
            free: NO_CHUNK,
            used_count: 0,
        }
    }

    pub(crate) fn schedule(&mut self, tick: Tick, key: K) {
        let slot = slot_of(tick.clamp(self.tick, self.tick + SLOTS as Tick - 1));
        let mut chunk = self.slots[slot];
        if chunk == NO_CHUNK || self.chunks[chunk as usize].count == CHUNK_ITEMS as u32 {
            chunk = self.add_chunk(chunk);
            self.slots[slot] = chunk;
            self.occupied[slot / 64] |= 1 << (slot % 64);
        }
        let chunk = &mut self.chunks[chunk as usize];
        chunk.items[chunk.count as usize] = (tick, key);
        chunk.count += 1;
    }

    /// Appends every deadline that has passed, with its key, to `due`.
    pub(crate) fn expire(&mut self, now: Millis, due: &mut Vec<(Tick, K)>) {
        let now = (now / TICK_MS).min((Tick::MAX - SLOTS as Tick).into()) as Tick;
        let ticks = (now + 1).saturating_sub(self.tick);
        let first_due = due.len();
        for tick in self.tick..self.tick + ticks.min(SLOTS as Tick) {
            let slot = slot_of(tick);
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            let mut chunk = std::mem::replace(&mut self.slots[slot], NO_CHUNK);
            while chunk != NO_CHUNK {
                chunk = self.empty_chunk(chunk, due);
            }
        }
        self.tick += ticks;
        let mut place = first_due;
        while place < due.len() {
            if due[place].0 > now {
                let (tick, key) = due.swap_remove(place);
                self.schedule(tick, key);
            } else {
                place += 1;
            }
        }
        if self.used_count == 0 {
            (self.chunks, self.free) = (Vec::new(), NO_CHUNK);
        }
    }

    /// When [`expire`](Self::expire) next has something to give, or `None` if nothing waits.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        let first = slot_of(self.tick);
        // The word of the first slot is looked at twice: its upper part at first, then the rest.
        let slot = (0..=WORDS).find_map(|nth| {
            let word = (first / 64 + nth) % WORDS;
            let is_ahead = u64::MAX << (first % 64);
            let mask = match nth {
                0 => is_ahead,
                WORDS => !is_ahead,
                _ => u64::MAX,
            };
            let bits = self.occupied[word] & mask;
            (bits != 0).then(|| word * 64 + bits.trailing_zeros() as usize)
        })?;
        let ahead = (slot + SLOTS - first) % SLOTS;
        Some((Millis::from(self.tick) + ahead as Millis) * TICK_MS)
    }

    /// Gives an empty chunk that follows `previous`.
    fn add_chunk(&mut self, previous: u32) -> u32 {
        self.used_count += 1;
        let chunk = self.free;
        if chunk == NO_CHUNK {
            let items = [(0, K::default()); CHUNK_ITEMS];
            self.chunks.push(Chunk { previous, count: 0, items });
            return self.chunks.len() as u32 - 1;
        }
        let place = &mut self.chunks[chunk as usize];
        self.free = place.previous;
        (place.previous, place.count) = (previous, 0);
        chunk
    }

    /// Moves what a chunk holds to `out`, and gives the chunk before it.
    fn empty_chunk(&mut self, chunk: u32, out: &mut Vec<(Tick, K)>) -> u32 {
        self.used_count -= 1;
        let place = &mut self.chunks[chunk as usize];
        out.extend_from_slice(&place.items[..place.count as usize]);
        let previous = std::mem::replace(&mut place.previous, self.free);
        self.free = chunk;
        previous
    }
}

fn slot_of(tick: Tick) -> usize {
    tick as usize % SLOTS
}

/// Fine enough that a deadline of a second is kept to 5 %.
pub(crate) const TICK_MS: u64 = 50;
/// Reaches 51 s ahead: beyond the default heartbeat and write timeout, so few go round again.
const SLOTS: usize = 1024;
const WORDS: usize = SLOTS / 64;
/// Half of a chunk is unused in each slot, which is 120 KiB in all.
const CHUNK_ITEMS: usize = 20;
const NO_CHUNK: u32 = u32::MAX;

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
            wheel.schedule(tick_of(u64::from(at)), at);
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
        wheel.schedule(tick_of(200_000), 1);
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
        wheel.schedule(tick_of(10), 1);
        wheel.schedule(tick_of(40_000), 2);
        assert_eq!(expired(&mut wheel, 10_000_000), [1, 2]);
        wheel.schedule(tick_of(5), 3);
        assert_eq!(expired(&mut wheel, 10_000_000), []);
        assert_eq!(expired(&mut wheel, 10_000_000 + TICK_MS), [3]);
    }

    #[test]
    fn the_next_deadline_is_found_wherever_it_stands() {
        for now in [0, 63, 64, 1_000, 1_023, 1_024, 5_000] {
            for ahead in [1, 2, 63, 64, 65, 500, 1_022, 1_023] {
                let mut wheel = TimerWheel::<u32>::new();
                wheel.expire(now * TICK_MS, &mut Vec::new());
                wheel.schedule((now + ahead) as Tick, 1);
                assert_eq!(wheel.next_deadline(), Some((now + ahead) * TICK_MS), "{now}, {ahead}");
            }
        }
    }

    #[test]
    fn chunks_are_used_again_and_freed_with_the_last() {
        let mut wheel = TimerWheel::new();
        for round in 0..50_u64 {
            for key in 0..1_000 {
                wheel.schedule(tick_of(round * 15_000 + u64::from(key)), key);
            }
            assert!(wheel.chunks.len() <= 1_000 / CHUNK_ITEMS + 2 * 21, "{}", wheel.chunks.len());
            let seen = expired(&mut wheel, round * 15_000 + 1_000);
            assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
            assert_eq!(wheel.chunks.capacity(), 0);
        }
    }
}
