//! What benchmarks of a whole server or a whole log need.
//!
//! Event data that can be checked, servers as processes whose cost is known, a reader of event
//! streams, and records of what was measured. Nothing here measures anything itself, but for what
//! the machine can do at best.

mod event_data;
mod event_stream;
mod record;
mod running;
mod samples;
mod scratch;
mod served;
mod target;

pub use event_data::{DATA_BYTES, data_of, is_data, number_of};
pub use event_stream::EventStream;
pub use record::{Machine, sync_us, write_record};
pub use running::{Running, Usage};
pub use samples::Samples;
pub use scratch::{Scratch, bytes_on_disk};
pub use served::{Served, cpu_of, own_cpu};
pub use target::{Offers, Prepared, Request, Target, TlsFiles, Transport, Wanted};
