//! Tests of the engine as a whole, by topic. What ran is asserted, not only what came out.

mod cancel;
mod collect;
mod cycles;
mod dry;
mod effects;
mod failures;
mod kinds;
mod model;
mod oracle;
mod races;
mod restart;
mod serial;
mod sessions;
mod together;
mod waves;
