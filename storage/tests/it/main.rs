//! The store as its users see it: what comes back after a restart, who waits for whom, and what is left when the
//! file, the disk or a process fails.

mod child;
mod collect;
mod damage;
mod events;
mod faults;
mod killed;
mod logs;
mod refused;
mod restart;
mod sample;
mod together;
mod traces;
mod trials;
mod values;
mod waiting;
