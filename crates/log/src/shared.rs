//! Logs in a store that several nodes share.

mod engine;
mod lives;

pub use engine::{
    Append, Cut, Engine, EngineError, Fetched, Life, NOTE_BYTES_MAX, Opened, Outcome, Placed, Seen,
    StepLimit, Wish,
};
pub use lives::{LifeRecord, PAST_MAX, TERMS_MAX, Term, Verdict, judge};
