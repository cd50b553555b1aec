//! The servers that are measured: the hub, the limits, and the peers.

mod bare;
mod tidings;

use std::path::Path;

use bench_stand::Target;

use self::bare::Bare;
use self::tidings::Tidings;

/// All of them, the limit first.
pub fn targets(tidings: &Path) -> Vec<Box<dyn Target>> {
    let mut targets: Vec<Box<dyn Target>> = vec![
        Box::new(Bare::new(false)),
        Box::new(Tidings::new(tidings, "memory")),
        Box::new(Bare::new(true)),
        Box::new(Tidings::new(tidings, "disk")),
    ];
    targets.extend(bench_peers::all());
    targets
}
