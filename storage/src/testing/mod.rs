//! What tests need: a medium that fails on purpose, and stores that are busy or have lost things. Behind the feature
//! `testing`.

mod lossy;
mod medium;

pub use self::medium::{Change, Fault, Faults, Log};
