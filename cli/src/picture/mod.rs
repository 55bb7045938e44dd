//! Pictures of runs.

pub(crate) mod lines;
pub(crate) mod page;
pub(crate) mod svg;
pub(crate) mod trace;
