//! What tests of the engine and of things built on it need: a log of what ran, a scripted world, and a way to drive
//! the engine step by step without threads, clocks or chance.

mod log;
mod script;
mod stepper;

pub use log::EventLog;
pub use script::{Constant, Look, Script, Work, WorkError};
pub use stepper::{Asked, Stepper};
