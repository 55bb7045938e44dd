//! A medium that fails on purpose. Behind the feature `testing`.

mod medium;

pub use self::medium::{Change, Fault, Faults, Log};
